"""What the tiers mean, from their data files."""

from __future__ import annotations

from provision import codec
from provision.catalog import load_tier
from provision.catalog import tiers as all_tiers
from provision.report import Report


def list_tiers() -> Report:
    """Every tier that provision brings, in the order of the catalogue."""
    rows = [{"name": tier.name, "title": tier.title, "summary": tier.summary} for tier in all_tiers()]
    return Report("tiers", data={"tiers": rows}, next_steps=("provision tiers show NAME",))


def show_tier(name: str) -> Report:
    """One tier whole; `name` is a tier's name or a file of the user's own."""
    tier = load_tier(name)
    return Report("tiers show", tier=tier.name, data={"tier": codec.to_data(tier)})

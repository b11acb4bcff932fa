"""What the shell offers at a TAB. Everything is imported when it is asked for, so that `--help` stays quick."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from provision.errors import ProvisionError

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completer(offers: Callable[[], Iterable[tuple[str, str]]]) -> Completer:
    """Those offers (word and meaning) that begin as the word does; none where they cannot be read."""

    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            return [CompletionItem(word, help=meaning) for word, meaning in offers() if word.startswith(incomplete)]
        except (ProvisionError, OSError):  # a complaint would land in the line that is being typed
            return []

    return complete


@_completer
def _tier_name() -> Iterable[tuple[str, str]]:
    from provision.catalog import tiers

    return [(tier.name, tier.title) for tier in tiers()]


def tier(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """A tier's name; a file where the word is a path."""
    if "/" in incomplete:
        return [CompletionItem(incomplete, type="file")]
    return _tier_name(ctx, param, incomplete)


@_completer
def role() -> Iterable[tuple[str, str]]:
    from provision.settings import load_registry

    return [(name, "") for name in load_registry().roles()]


@_completer
def setting() -> Iterable[tuple[str, str]]:
    """`NAME=` of every setting, and the keys of `mirrors`."""
    from provision.settings import load_registry
    from provision.translate import role_variables

    registry = load_registry()
    yield from ((f"{name}=", found.description) for name, found in registry.settings.items() if found.role)
    yield from ((f"{key}=", f"stands for {name}") for name, key, _ in role_variables(registry.mirrors()))


@_completer
def system() -> Iterable[tuple[str, str]]:
    from provision.catalog import load_catalog
    from provision.hardware_file import systems

    return [(name, "") for name in systems(load_catalog())]


@_completer
def gpu() -> Iterable[tuple[str, str]]:
    """Products with dashes for spaces, which mean the same: bash does not quote what it inserts."""
    from provision.catalog import load_catalog

    products = load_catalog().nvidia.products.values()
    return dict.fromkeys((product.name.replace(" ", "-"), product.architecture.name) for product in products)


@_completer
def subject() -> Iterable[tuple[str, str]]:
    from provision.operations.explain import subjects

    return [(name, "") for name in subjects()]


@_completer
def run() -> Iterable[tuple[str, str]]:
    from provision.ledger import Ledger

    yield "last", "the newest run"
    yield from ((kept.run, f"{kept.verb}, {kept.status}") for kept in Ledger.open().history())


@_completer
def target() -> Iterable[tuple[str, str]]:
    from provision import lab

    return [(host.name, host.image) for host in lab.hosts()]


@_completer
def image() -> Iterable[tuple[str, str]]:
    from provision.lab import IMAGES

    return [(known.name, known.summary) for known in IMAGES.values()]

"""The disk layout drawn: each tier with its disks, its filesystem and what it holds; then the disks left alone."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from markupsafe import Markup

from provision.cli.htmlsvg import add, drawing, markup, number, shortened
from provision.cli.storagetext import JOINED

WIDTH, PAD, ROW, LINE = 360.0, 12.0, 44.0, 16.0

Tier = Mapping[str, Any]
Disk = Mapping[str, Any]


def told(layout: Sequence[Tier], disks: Sequence[Disk]) -> str:
    """The same in words: what a screen reader reads."""
    parts = [
        f"{tier.get('name')}: {_made_of(tier)}, {size(number(tier.get('size_gb')) * 1e9)}, "
        f"of {' and '.join(map(str, tier.get('disks') or ())) or 'no disk'}; holds {_holds(tier)}"
        for tier in layout
    ]
    alone = [f"{disk['name']} ({size(disk['size_bytes'])}, {_contents(disk)})" for disk in left_alone(layout, disks)]
    return ". ".join([*parts, *([f"Left alone: {', '.join(alone)}"] if alone else [])])


def svg(name: str, layout: Sequence[Tier], disks: Sequence[Disk]) -> Markup:
    """The drawing of the setting `storage_layout` on `hardware.disks` of a report; `name` is unique on the page."""
    root = drawing(name, "Disk layout", told(layout, disks), class_="disks")
    largest = max([number(tier.get("size_gb")) for tier in layout], default=0.0)
    y = 1.0
    for tier in layout:
        y = _tier(root, tier, _known(tier, disks), largest, y) + 10
    alone = left_alone(layout, disks)
    if alone:
        height = 30 + ROW * len(alone) + PAD / 2
        add(root, "rect", x=1.0, y=y, width=WIDTH - 2, height=height, rx=8, class_="alone")
        add(root, "text", "left alone", x=PAD, y=y + 20, class_="small")
        for row, disk in enumerate(alone):
            _disk(root, y + 30 + ROW * row, next(iter(disk["by_id"]), disk["name"]), _contents(disk), disk)
        y += height + 10
    root.set("viewBox", f"0 0 {WIDTH:g} {max(y - 9, 1):g}")
    return markup(root)


def left_alone(layout: Sequence[Tier], disks: Sequence[Disk]) -> list[Disk]:
    """The disks of the box that no tier takes."""
    taken = {name for tier in layout for name in tier.get("disks") or ()}
    return [disk for disk in disks if not taken & {*disk["by_id"], disk["name"]}]


def size(count: float) -> str:
    """Bytes as disks are sold: 2 TB, 960 GB."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor * 0.9995:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} bytes"


def _tier(root: ET.Element, tier: Tier, disks: Sequence[tuple[str, Disk | None]], largest: float, y: float) -> float:
    """One tier from `y` downward; where it ends."""
    holds = textwrap.wrap(f"holds {_holds(tier)}", 56)
    height = 62 + ROW * len(disks) + LINE * len(holds) + PAD / 2
    add(root, "rect", x=1.0, y=y, width=WIDTH - 2, height=height, rx=8, class_="tier")
    add(root, "text", str(tier.get("name", "")), x=PAD, y=y + 22, class_="name")
    whole = size(number(tier.get("size_gb")) * 1e9)
    add(root, "text", whole, x=WIDTH - PAD, y=y + 22, text_anchor="end", class_="name")
    add(root, "text", shortened(_made_of(tier), 56), x=PAD, y=y + 40, class_="small")
    inner = WIDTH - 2 * PAD
    share = number(tier.get("size_gb")) / largest if largest else 0.0
    add(root, "rect", x=PAD, y=y + 47, width=inner, height=5, rx=2.5, class_="track")
    add(root, "rect", x=PAD, y=y + 47, width=max(5.0, inner * share), height=5, rx=2.5, class_="share")
    y += 60
    for label, disk in disks:
        _disk(root, y, label, "" if disk else "not seen on this box", disk)
        y += ROW
    for line in holds:
        add(root, "text", line, x=PAD, y=y + 12, class_="small")
        y += LINE
    return y + PAD / 2 + 2


def _disk(root: ET.Element, y: float, label: str, note: str, disk: Disk | None) -> None:
    """One disk: a platter or a chip, its name, and what is to be said of it."""
    group = add(root, "g")
    add(group, "title", label)
    add(group, "rect", x=PAD, y=y, width=WIDTH - 2 * PAD, height=ROW - 6, rx=5, class_="disk")
    if disk and disk["rotational"]:
        add(group, "circle", cx=PAD + 17, cy=y + 19, r=9, class_="platter")
        add(group, "circle", cx=PAD + 17, cy=y + 19, r=2.2, class_="platter")
    else:
        add(group, "rect", x=PAD + 8, y=y + 13, width=18, height=12, rx=2, class_="platter")
    kind = f"{size(disk['size_bytes'])}, {disk['name']}, {disk['transport']}" if disk else ""
    words = ", ".join(filter(None, [kind, note]))
    add(group, "text", shortened(label, 45), x=PAD + 36, y=y + 16, class_="small id")
    add(group, "text", textwrap.shorten(words, 50, placeholder=" …"), x=PAD + 36, y=y + 31, class_="small")


def _known(tier: Tier, disks: Iterable[Disk]) -> list[tuple[str, Disk | None]]:
    """Each disk that the tier names, with what was found of it."""
    found = {name: disk for disk in disks for name in (disk["name"], *disk["by_id"])}
    return [(str(name), found.get(name)) for name in tier.get("disks") or ()]


def _made_of(tier: Tier) -> str:
    level = JOINED.get(str(tier.get("level")), "")
    options = ",".join(map(str, tier.get("options") or ()))
    made = " on ".join(filter(None, [str(tier.get("filesystem", "")), level]))
    return f"{made} at {tier.get('mountpoint', '')}" + (f" ({options})" if options else "")


def _holds(tier: Tier) -> str:
    return ", ".join(map(str, tier.get("holds") or ())) or "nothing yet"


def _contents(disk: Disk) -> str:
    return ", ".join(disk["contents"]) or "empty"

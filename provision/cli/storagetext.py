"""The layout of the disks as a small drawing: disk, how disks are joined, file system, place, and what it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from provision.cli.page import BOLD, DIM, Page

JOINED = {"single": "", "mirror": "mirror", "lvm": "one LVM volume"}


def draw(page: Page, layout: Sequence[Mapping[str, Any]], *, indent: int) -> None:
    """Every volume of `storage_layout`: its disks under each other, joined by a bracket where there are several."""
    width = max((len(disk) for volume in layout for disk in volume["disks"]), default=0)
    for volume in layout:
        path = [JOINED[volume["level"]], volume["filesystem"], volume["mountpoint"]]
        line = " ── ".join(step for step in path if step)
        about = f"  {volume['name']}, {volume['size_gb']} GB"
        disks = volume["disks"]
        for place, disk in enumerate(disks):
            head = (disk.ljust(width), BOLD)
            last = place == len(disks) - 1
            joint = " ─── " if len(disks) == 1 else " ─┬─ " if place == 0 else " ─┘" if last else " ─┤"
            page.line(head, joint, *((line, (about, DIM)) if place == 0 else ()), indent=indent)
        for place, kept in enumerate(volume["holds"]):
            branch = "└─ " if place == len(volume["holds"]) - 1 else "├─ "
            page.line(branch, kept, indent=indent + width + 6)

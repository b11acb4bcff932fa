"""Which disks a device lies on, and the names that outlive a boot."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from provision.content import load, playbooks_dir

FILE = playbooks_dir() / "module_utils" / "provision_disks.py"
module = load(FILE)


def test_the_target_needs_no_newer_python() -> None:
    ast.parse(FILE.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_a_disk_is_named_as_the_next_boot_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror of a partition and a whole disk, as /sys shows it."""
    devices = {"9:1": "md1", "8:17": "sdb/sdb1", "259:0": "nvme0n1"}
    (tmp_path / "block").mkdir()
    for number, place in devices.items():
        (tmp_path / "devices" / place).mkdir(parents=True)
        (tmp_path / "block" / number).symlink_to(tmp_path / "devices" / place)
    (tmp_path / "devices/sdb/sdb1/partition").touch()
    (tmp_path / "devices/md1/slaves").mkdir()
    for place in ("sdb/sdb1", "nvme0n1"):
        (tmp_path / "devices/md1/slaves" / Path(place).name).symlink_to(tmp_path / "devices" / place)
    (tmp_path / "by-id").mkdir()
    links = {"wwn-0x5": "sdb", "ata-Hdd_H1": "sdb", "ata-Hdd_H1-part1": "sdb1", "nvme-eui.1": "nvme0n1"}
    for name, disk in links.items():
        (tmp_path / "by-id" / name).symlink_to(tmp_path / "dev" / disk)
    monkeypatch.setattr(module, "BY_ID", str(tmp_path / "by-id"))

    def names(number: str) -> list[str]:
        major, minor = map(int, number.split(":"))
        found: list[str] = module.stable_names(os.makedev(major, minor), str(tmp_path / "block"))
        return found

    assert {number: names(number) for number in (*devices, "0:42")} == {
        "9:1": ["nvme-eui.1", "ata-Hdd_H1"], "8:17": ["ata-Hdd_H1"], "259:0": ["nvme-eui.1"], "0:42": [],
    }  # fmt: skip

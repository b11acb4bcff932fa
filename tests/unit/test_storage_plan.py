"""Disks in, tiers out: which are taken, which are left alone, which are refused, each by its stable name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from provision.catalog import load_catalog
from provision.cli.page import Page
from provision.cli.storagetext import draw
from provision.contradictions import Contradiction
from provision.model import Cpu, Disk, Firmware, Hardware, OperatingSystem, Volume
from provision.solver import disks, storage
from provision.solver.box import Box

TB = 10**12
BOOT = Disk("nvme0n1", ("nvme-Boot_B0", "nvme-eui.0025"), TB, False, "nvme", ("nvme0n1: gpt partition table",
            "nvme0n1p1: ext4 on /", "nvme0n1p2: swap on [SWAP]"))  # fmt: skip
NVME = Disk("nvme1n1", ("nvme-Fast_F1", "nvme-Fast_F1_1", "nvme-eui.0026"), 2 * TB, False, "nvme")
NVME2 = Disk("nvme2n1", ("nvme-Fast_F2",), 2 * TB, False, "nvme")
HDD = Disk("sda", ("ata-Hdd_H1", "wwn-0x5000"), 4 * TB, True, "sata")
HDD2 = Disk("sdb", ("ata-Hdd_H2",), 4 * TB, True, "sata")
FOREIGN = Disk("sdc", ("ata-Hdd_H3",), 8 * TB, True, "sata", ("sdc1: ntfs",))
MEMBER = replace(FOREIGN, contents=("sdc: linux_raid_member", "md127: ext4"))
MOUNTED = replace(FOREIGN, contents=("sdc1: ext4 on /data",))
STICK = Disk("sdd", ("usb-Stick_S1",), TB, True, "usb")


def box(*found: Disk, volumes: tuple[Volume, ...] = (), kind: str = "metal", **pins: Any) -> Box:
    hardware = Hardware(
        OperatingSystem("debian", "12", "bookworm", "x86_64"), Cpu("AMD", 1, 8, 16), 2**36, disks=found,
        volumes=volumes, firmware=Firmware(virtualization=kind),
    )  # fmt: skip
    pinned = {f"storage_{name}": value for name, value in pins.items() if "_root" not in name}
    pinned |= {name: value for name, value in pins.items() if "_root" in name}
    catalog, roles = load_catalog(), ("storage", "docker", "model_cache")
    return Box(hardware, (), pinned, catalog.settings.defaults(), catalog.nvidia, roles)


def layout(of: Box) -> dict[str, dict[str, Any]]:
    return {volume["name"]: volume for volume in storage.decisions(of)[storage.LAYOUT].value}


def lies_on(of: Box) -> dict[str, tuple[str, ...]]:
    return {name: tuple(volume["disks"]) for name, volume in layout(of).items()}


def refused(of: Box) -> Contradiction:
    told = storage.faults(of)
    assert len(told) == 1, told
    return told[0]


# -- what is taken by itself -----------------------------------------------------------------------------------------


def test_empty_disks_become_tiers_and_the_boot_disk_none() -> None:
    of = box(BOOT, NVME, HDD)
    assert lies_on(of) == {"fast": ("nvme-Fast_F1",), "archive": ("ata-Hdd_H1",)}
    assert (storage.faults(of), storage.warnings(of)) == ([], [])
    assert layout(of)["fast"] == {
        "name": "fast", "disks": ["nvme-Fast_F1"], "level": "single", "filesystem": "xfs", "mountpoint": "/srv/fast",
        "options": ["noatime", "nofail", "x-systemd.device-timeout=90s"], "size_gb": 2000,
        "holds": ["/srv/fast/models", "/srv/fast/docker", "/srv/fast/containerd", "/srv/fast/scratch"],
    }  # fmt: skip


def test_what_belongs_on_the_fast_tier_goes_there_unless_somebody_put_it_elsewhere() -> None:
    decided = storage.decisions(box(BOOT, NVME, model_cache_root="/data/models", fast_mountpoint="/mnt/nvme/"))
    assert decided["docker_data_root"].value == "/mnt/nvme/docker"
    assert decided["docker_containerd_root"].value == "/mnt/nvme/containerd"
    held = layout(box(BOOT, NVME, model_cache_root="/data/models"))["fast"]["holds"]
    assert held == ["/srv/fast/docker", "/srv/fast/containerd", "/srv/fast/scratch"]


def test_a_box_whose_only_nvme_disk_is_the_boot_disk_keeps_its_data_there() -> None:
    decided = storage.decisions(box(BOOT, HDD))
    assert set(decided) == {storage.LAYOUT}
    assert "the only NVMe disk is the one this system runs from" in decided[storage.LAYOUT].because


def test_kernel_names_decide_nothing() -> None:
    swapped = [replace(NVME, name="nvme0n1"), replace(BOOT, name="nvme1n1"), replace(HDD, name="sdb")]
    assert layout(box(*swapped)) == layout(box(BOOT, NVME, HDD))


def test_sticks_and_disks_without_a_stable_name_are_no_tier() -> None:
    assert lies_on(box(BOOT, STICK, replace(NVME, by_id=()))) == {}
    assert storage.warnings(box(BOOT, replace(NVME, by_id=()))) == ["/dev/nvme1n1 is not used: it has no stable name"]


def test_of_several_the_largest_is_taken_and_the_others_stay_empty() -> None:
    larger = replace(NVME2, size_bytes=3 * TB)
    of = box(BOOT, NVME, larger)
    assert lies_on(of) == {"fast": ("nvme-Fast_F2",)}
    joined = "set storage_mirror=[fast] or storage_lvm=[fast]"
    assert storage.warnings(of) == [f"nvme-Fast_F1 stays empty: to use more than one for fast, {joined}"]


def test_two_equal_disks_are_mirrored_where_asked_and_several_joined() -> None:
    mirror = layout(box(BOOT, HDD, HDD2, mirror=["archive"]))["archive"]
    assert (mirror["disks"], mirror["level"], mirror["size_gb"]) == (["ata-Hdd_H1", "ata-Hdd_H2"], "mirror", 4000)
    volume = layout(box(BOOT, HDD, HDD2, lvm=["archive"]))["archive"]
    assert (volume["level"], volume["size_gb"]) == ("lvm", 8000)


def test_a_disk_that_is_not_empty_is_left_alone_and_told() -> None:
    of = box(BOOT, FOREIGN)
    assert lies_on(of) == {}
    give_up = "to make it the archive tier and lose that: --set 'storage_wipe=[ata-Hdd_H3]'"
    assert storage.warnings(of) == [f"ata-Hdd_H3 is left alone: on it is sdc1: ntfs; {give_up}"]
    assert storage.warnings(box(BOOT, MOUNTED)) == ["ata-Hdd_H3 is left alone: on it is sdc1: ext4 on /data"]
    assert lies_on(box(BOOT, FOREIGN, wipe=["ata-Hdd_H3"])) == {"archive": ("ata-Hdd_H3",)}


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "pins", "setting", "said"),
    [
        (FOREIGN, {"archive": ["ata-Hdd_H3"]}, "storage_archive", "ata-Hdd_H3, which is not empty: sdc1: ntfs"),
        (MEMBER, {"archive": ["ata-Hdd_H3"]}, "storage_archive", "not empty: sdc: linux_raid_member, md127: ext4"),
        (MOUNTED, {"archive": ["ata-Hdd_H3"]}, "storage_archive", "which is in use (on it: sdc1: ext4 on /data)"),
        (NVME, {"fast": ["nvme-Boot_B0"]}, "storage_fast", "nvme-Boot_B0, the disk this system runs from (on it: nv"),
        (NVME, {"fast": ["nvme1n1"]}, "storage_fast", "nvme1n1, and the next boot may give that name to another disk"),
        (NVME, {"fast": ["nvme-Gone_G1"]}, "storage_fast", "nvme-Gone_G1, and no disk of this box has that name"),
        (NVME, {"wipe": ["nvme-Gone_G1"]}, "storage_wipe", "nvme-Gone_G1, and no disk of this box has that name"),
        (NVME, {"wipe": ["nvme-Boot_B0"]}, "storage_wipe", "nvme-Boot_B0, the disk this system runs from"),
        (STICK, {"wipe": ["usb-Stick_S1"]}, "storage_wipe", "usb-Stick_S1, which no tier takes"),
        (HDD, {"mirror": ["archive"]}, "storage_mirror", "wants two equal empty rotating disks for archive"),
        (HDD, {"fast": ["ata-Hdd_H1"], "archive": ["ata-Hdd_H1"]}, "storage_archive", "which is in storage_fast too"),
        (HDD, {"archive_mountpoint": "/srv/fast/x"}, "storage_archive_mountpoint", "the fast tier is at /srv/fast"),
        (NVME, {"quotas": {"/srv/fast": 9}}, "storage_quotas", "/srv/fast, which is a directory of no tier"),
        (NVME, {"quotas": {"/srv/fast/a": 9}, "fast_filesystem": "ext4"}, "storage_quotas", "only xfs limits"),
        (NVME, {"layout": [{"name": "fast"}]}, "storage_layout", "is decided from the disks"),
    ],
)  # fmt: skip
def test_it_is_refused_by_name_and_with_what_is_on_it(found: Disk, pins: Any, setting: str, said: str) -> None:
    name, fact, hint = refused(box(BOOT, found, **pins))
    assert name == setting
    assert said in fact
    assert hint


@pytest.mark.parametrize("disk", [BOOT, MOUNTED])
def test_the_boot_disk_and_a_mounted_one_are_never_taken_even_when_they_may_be_wiped(disk: Disk) -> None:
    tier = "fast" if disk is BOOT else "archive"
    of = box(BOOT, disk, **{tier: [disk.by_id[0]], "wipe": [disk.by_id[0]]})
    assert {name for name, _, _ in storage.faults(of)} == {f"storage_{tier}", "storage_wipe"}
    assert lies_on(of) == {}


def test_named_and_given_up_a_disk_is_taken() -> None:
    of = box(BOOT, FOREIGN, archive=["ata-Hdd_H3"], wipe=["ata-Hdd_H3"])
    assert (lies_on(of), storage.faults(of)) == ({"archive": ("ata-Hdd_H3",)}, [])


def test_unequal_disks_are_no_mirror_and_loose_ones_no_tier() -> None:
    pair = ["ata-Hdd_H1", "ata-Hdd_H2"]
    small = replace(HDD2, size_bytes=TB)
    assert "ata-Hdd_H1 with 4000000000000 bytes" in refused(box(HDD, small, archive=pair, mirror=["archive"]))[1]
    assert "nothing joins them" in refused(box(HDD, HDD2, archive=pair))[1]


# -- what an earlier run made ----------------------------------------------------------------------------------------

MADE = replace(NVME, contents=("nvme1n1: xfs on /srv/fast",))
VOLUME = Volume("fast", "single", ("nvme-Fast_F1",), ("nvme1n1",))
HALVES = tuple(replace(disk, contents=(f"{disk.name}: linux_raid_member", "md0: xfs")) for disk in (HDD, HDD2))
PAIR = Volume("archive", "mirror", ("ata-Hdd_H1", "ata-Hdd_H2"), ("sda", "sdb"))


def test_what_was_made_is_planned_again_the_same() -> None:
    again = box(BOOT, MADE, volumes=(VOLUME,))
    assert layout(again) == layout(box(BOOT, NVME))
    assert (storage.faults(again), storage.warnings(again)) == ([], [])
    pair = box(*HALVES, volumes=(PAIR,), mirror=["archive"])
    assert layout(pair) == layout(box(HDD, HDD2, mirror=["archive"]))
    assert storage.faults(pair) == []


def test_a_tier_that_was_made_stays_where_it_is_when_a_better_disk_comes() -> None:
    assert lies_on(box(BOOT, MADE, replace(NVME2, size_bytes=9 * TB), volumes=(VOLUME,))) == {"fast": ("nvme-Fast_F1",)}


def test_a_lost_disk_is_named_and_no_other_takes_its_place() -> None:
    setting, fact, hint = refused(box(BOOT, NVME2, volumes=(replace(VOLUME, carried_by=()),)))
    assert (setting, fact) == ("", "lacks nvme-Fast_F1, which the fast tier lies on")
    assert "--skip storage" in hint


def test_a_degraded_mirror_is_named_with_what_is_left_of_it() -> None:
    _, fact, _ = refused(box(HALVES[0], volumes=(replace(PAIR, carried_by=("sda",)),)))
    left = "ata-Hdd_H1 (on it: sda: linux_raid_member, md0: xfs)"
    assert fact == f"has a degraded mirror: {left} is left, and of it ata-Hdd_H2 is gone"


def test_a_disk_whose_tier_gave_way_to_something_else_is_not_touched() -> None:
    _, fact, _ = refused(box(replace(MADE, contents=("nvme1n1: ext4",)), volumes=(replace(VOLUME, carried_by=()),)))
    assert fact == "finds no fast tier on nvme-Fast_F1 any more (on it: nvme1n1: ext4)"


def test_a_tier_that_somebody_emptied_is_made_anew() -> None:
    of = box(BOOT, NVME, volumes=(replace(VOLUME, carried_by=()),))
    assert storage.faults(of) == []
    assert storage.warnings(of) == ["the fast tier's nvme-Fast_F1 lost what was on it: it is made anew"]


def test_a_tier_is_not_moved_nor_joined_otherwise() -> None:
    moved = refused(box(BOOT, MADE, NVME2, volumes=(VOLUME,), fast=["nvme-Fast_F2"]))
    assert moved[1] == "names nvme-Fast_F2, and the tier lies on nvme-Fast_F1"
    mirrored = refused(box(BOOT, MADE, NVME2, volumes=(VOLUME,), mirror=["fast"]))
    assert mirrored[1] == "makes the fast tier mirror, and on nvme-Fast_F1 it is single"


def test_a_permission_that_is_spent_is_told() -> None:
    of = box(BOOT, MADE, volumes=(VOLUME,), wipe=["nvme-Fast_F1"])
    assert storage.warnings(of) == [
        "storage_wipe still names nvme-Fast_F1, which is in use: take it out of the inventory"
    ]
    assert storage.faults(of) == []


# -- around it -------------------------------------------------------------------------------------------------------


def test_a_role_left_out_of_this_run_finds_no_tier_that_is_not_there() -> None:
    assert set(storage.decisions(replace(box(BOOT, NVME), roles=("docker",)))) == {storage.LAYOUT}
    there = replace(box(BOOT, MADE, volumes=(VOLUME,)), roles=("docker",))
    assert storage.decisions(there)["docker_data_root"].value == "/srv/fast/docker"


def test_data_do_not_move_off_a_tier_that_is_lost() -> None:
    lost = replace(box(BOOT, volumes=(replace(VOLUME, carried_by=()),)), roles=("docker",))
    assert storage.decisions(lost)["docker_data_root"].value == "/srv/fast/docker"


def test_it_is_dropped_where_the_disks_are_somebody_elses() -> None:
    assert (
        storage.dropped(box(NVME, kind="container:docker"))
        == "the disks are those of the host of this docker container"
    )
    assert [storage.dropped(box(NVME, kind=kind)) for kind in ("metal", "vm:kvm")] == ["", ""]


def test_what_nobody_looked_at_is_no_plan() -> None:
    of = box()
    blind = replace(of, hardware=replace(of.hardware, unknown=("disks",)))
    assert (layout(blind), storage.faults(blind)) == ({}, [])


def test_the_most_telling_name_is_taken() -> None:
    names = ("wwn-0x5000", "ata-Hdd_H1", "nvme-eui.0026", "nvme-Fast_F1_1", "nvme-Fast_F1")
    assert disks.by_id(replace(NVME, by_id=names)) == "nvme-Fast_F1"
    assert disks.by_id(replace(NVME, by_id=names[:3])) == "ata-Hdd_H1"
    assert disks.by_id(replace(NVME, by_id=names[2:3])) == "nvme-eui.0026"


def test_the_layout_is_drawn() -> None:
    page = Page(color=False)
    draw(page, list(layout(box(BOOT, NVME, HDD, HDD2, mirror=["archive"])).values()), indent=0)
    assert str(page).splitlines() == [
        "nvme-Fast_F1 ─── xfs ── /srv/fast  fast, 2000 GB",
        "                  ├─ /srv/fast/models",
        "                  ├─ /srv/fast/docker",
        "                  ├─ /srv/fast/containerd",
        "                  └─ /srv/fast/scratch",
        "ata-Hdd_H1   ─┬─ mirror ── xfs ── /srv/archive  archive, 4000 GB",
        "ata-Hdd_H2   ─┘",
        "                  ├─ /srv/archive/datasets",
        "                  ├─ /srv/archive/models",
        "                  └─ /srv/archive/outputs",
    ]

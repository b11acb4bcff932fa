"""Disks of a virtual machine: the wrong ones are refused and stay as they are, the right ones become tiers that last.

The tests stand in order: a bare machine, then made, broken and mended, rebooted, and at last robbed of disks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from provision.lab import vm
from tests.integration.conftest import Answer, Target, changed_tasks, own_lab, provision
from tests.integration.hotplug import SIZE, Drives, by_id, fingerprint
from tests.integration.rounds import Control, name_of, prove_broken, rounds

# An emulated machine beside others takes ten times as long as alone.
pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(2400)]

BOOT, NVME = "ata-LAB-SSD_LAB0SSD", "nvme-QEMU_NVMe_Ctrl_LAB0NVME"
SERIALS = ("ONE", "TWO", "RAW", "EXT")
PAIR = [by_id("ONE"), by_id("TWO")]
WANTED = (
    "--only", "storage", "--set", f"storage_archive={json.dumps(PAIR)}", "--set", "storage_mirror=[archive]",
    "--set", 'storage_quotas={"/srv/fast/scratch": 5}',
)  # fmt: skip

# Somebody's file system without room for one block more; most of its file was never written, and takes no time.
FULL = """
set -e
udevadm settle
mkfs.ext4 -q -m 0 -L photos /dev/disk/by-id/{0}
mount /dev/disk/by-id/{0} /mnt
fallocate --length $(($(df --output=avail --block-size=1 /mnt | tail -n 1) - 1000000)) /mnt/film
cat /dev/zero > /mnt/rest 2> /dev/null || :
test $(df --output=avail /mnt | tail -n 1) = 0
umount /mnt
udevadm settle
sync
"""


@dataclass(frozen=True)
class Machine:
    """A virtual machine whose disks are seen from outside too."""

    target: Target
    drives: Drives
    own: Sequence[Path]  # its own empty disks

    def sh(self, script: str) -> str:
        return self.target.sh(script)

    def plan(self, *words: str) -> Answer:
        given = (*self.target.options(), "--output", "json", "--only", "storage")
        return provision("plan", "--tier", "workstation", *given, *words, home=self.target.home)

    def layout(self) -> list[dict[str, Any]]:
        answer = self.plan(*WANTED[2:])
        assert answer.code == 0, answer.why
        found: list[dict[str, Any]] = answer.host("storage")["plan"]["settings"]["storage_layout"]
        return found

    def refusal(self, *words: str) -> str:
        answer = self.plan(*words)
        assert answer.code == 2, answer.why
        return json.dumps([answer.document["refusals"], answer.host("storage")["refusals"]])

    def system(self) -> str:
        """The kernel's name of the boot disk: it probes disks side by side, and either may come first."""
        return self.sh(f"basename $(readlink -f /dev/disk/by-id/{BOOT})").strip()

    def order(self) -> list[str]:
        """The kernel's names of the plugged disks."""
        return self.sh(f"readlink {' '.join(f'/dev/disk/by-id/{by_id(serial)}' for serial in SERIALS)}").split()

    def strangers(self) -> list[str]:
        """Every byte of the disks that are nobody's here."""
        return [fingerprint(self.drives.file(serial)) for serial in ("RAW", "EXT")]

    def everything(self) -> list[str]:
        """Every byte of the empty and the plugged disks, and what makes the boot disk boot."""
        head = self.sh(f"sync; head -c 1048576 /dev/disk/by-id/{BOOT} | sha256sum; cat /etc/fstab")
        files = [*self.own, *sorted(self.drives.folder.glob("*.raw"))]
        return [head, *map(fingerprint, files)]


@pytest.fixture(scope="module")
def machine(new_target: Callable[..., Target], tmp_path_factory: pytest.TempPathFactory) -> Machine:
    target = new_target("storage", "vm-debian-12")
    with own_lab():
        qemu = vm._machine("storage")
    drives = Drives(qemu, tmp_path_factory.mktemp("drives"))
    for serial in SERIALS:
        drives.make(serial)
    with drives.file("RAW").open("r+b") as stream:
        for place in range(0, SIZE, 1 << 23):
            stream.seek(place)
            stream.write(os.urandom(1 << 16))
    for serial in SERIALS:
        drives.plug(serial)
    # mdadm would have the initramfs made anew, which needs no array here and takes minutes under emulation.
    target.sh("sed -i 's/^update_initramfs=.*/update_initramfs=no/' /etc/initramfs-tools/update-initramfs.conf")
    target.sh(FULL.format(by_id("EXT")))
    return Machine(target, drives, [qemu.disk.with_name(f"{name}.raw") for name in ("hdd", "nvme")])


def volume(disk: str, size_gb: int = 1) -> dict[str, Any]:
    """A plan that names this disk, as it would be had somebody swapped disks since."""
    return {
        "name": "archive", "disks": [disk], "level": "single", "filesystem": "ext4", "mountpoint": "/srv/archive",
        "options": ["noatime", "nofail"], "size_gb": size_gb, "holds": [],
    }  # fmt: skip


# -- the wrong disk --------------------------------------------------------------------------------------------------


def test_a_plan_refuses_wrong_disks_by_name_and_touches_nothing(machine: Machine) -> None:
    before = machine.everything()
    for words, said in (
        (
            [f"storage_fast=[{BOOT}]", f"storage_wipe=[{BOOT}]", f"storage_archive=[{by_id('EXT')}]"],
            [
                f'"--set storage_fast", "fact": "names {BOOT}, the disk this system runs from',
                f"{machine.system()}1: ext4 on /",
                f'"--set storage_wipe", "fact": "names {BOOT}, the disk this system runs from',
                f"names {by_id('EXT')}, which is not empty",
                ": ext4",
            ],
        ),
        (["storage_fast=[nvme0n1]"], ["names nvme0n1, and the next boot may give that name", f"use {NVME}"]),
    ):
        told = machine.refusal(*(word for each in words for word in ("--set", each)))
        assert [part for part in said if part not in told] == []
    assert machine.everything() == before


def test_the_host_refuses_at_the_last_moment_whatever_was_planned(machine: Machine) -> None:
    before = machine.everything()
    system = machine.system()
    cases = (
        (
            BOOT,
            21,
            [BOOT],
            [f"{BOOT} is in use and is never written to: on it is {system}", f"{system}1: ext4", " on /"],
        ),
        (by_id("EXT"), 1, [], [f"{by_id('EXT')} is not empty: on it is sd", ": ext4 labelled photos"]),
        (by_id("RAW"), 1, [], [f"{by_id('RAW')} is not empty: on it is sd", ": data without a signature"]),
        (by_id("ONE"), 4000, [], [f"{by_id('ONE')} has 1 GB, and 4000 GB were planned"]),
        (by_id("GONE"), 1, [], [f"{by_id('GONE')} is not there"]),
    )
    given = [{"storage_layout": [volume(disk, size)], "storage_wipe": wipe} for disk, size, wipe, _ in cases]
    done = machine.target.refused("storage", given)
    for outcome, (*_, said) in zip(done, cases, strict=True):
        told = " ".join(outcome.output.split())
        assert (outcome.changed, [part for part in said if part not in told]) == ([], []), told[-2000:]
    assert machine.everything() == before


def test_disks_in_another_order_are_the_same_disks(machine: Machine) -> None:
    layout, order = machine.layout(), machine.order()
    machine.drives.unplug("ONE")
    machine.drives.unplug("TWO")
    machine.drives.plug("TWO")
    machine.drives.plug("ONE")
    machine.sh("udevadm settle")
    assert machine.order() != order
    assert machine.layout() == layout


# -- the right ones --------------------------------------------------------------------------------------------------


def test_what_was_foretold_is_made_and_proved(machine: Machine) -> None:
    strangers = machine.strangers()
    foretold = machine.target.apply("--check", *WANTED, tier="workstation")
    assert foretold.code == 0, foretold.out[-4000:]
    applied = machine.target.apply(*WANTED, tier="workstation")
    assert applied.code == 0, applied.why
    assert {check["state"] for check in applied.host("storage")["checks"]} == {"passed"}
    assert changed_tasks(foretold, "storage") == changed_tasks(applied, "storage")
    assert machine.strangers() == strangers


def unchanged(machine: Machine) -> None:
    again = machine.target.apply("--no-verify", *WANTED, tier="workstation")
    assert again.code == 0, again.why
    assert changed_tasks(again, "storage") == set()


@pytest.mark.parametrize("together", rounds(["storage"]), ids=name_of)
def test_what_is_broken_is_found(machine: Machine, together: list[Control]) -> None:
    def verify(_: Sequence[str]) -> Answer:
        return machine.target.verify(*WANTED, tier="workstation")

    prove_broken(machine.target, together, verify)


def test_after_a_real_reboot_everything_is_back_and_nothing_is_to_be_done(machine: Machine) -> None:
    """Whatever their order: they are swapped before it, and strangers then have the kernel's names of the tier's."""
    layout, order, strangers = machine.layout(), machine.order(), machine.strangers()
    machine.sh("echo kept > /srv/archive/models/weights; umount /srv/archive; mdadm --stop /dev/md/*")
    for serial in SERIALS:
        machine.drives.unplug(serial)
    for serial in ("EXT", "TWO", "RAW", "ONE"):
        machine.drives.plug(serial)
    machine.target.reboot()
    # Nothing waits for the archive, so a boot may have ended before its mirror runs.
    machine.sh("timeout 120 sh -c 'until findmnt /srv/archive; do sleep 1; done'")
    assert machine.order() != order
    assert machine.sh("cat /srv/archive/models/weights").strip() == "kept"
    assert machine.layout() == layout
    assert machine.target.verify(*WANTED, tier="workstation").code == 0
    unchanged(machine)
    assert machine.strangers() == strangers


def test_data_that_do_not_fit_stay_where_they_are(machine: Machine) -> None:
    machine.sh("mkdir /srv/models; fallocate --length 300M /srv/models/weights; sha256sum /srv/models/weights")
    free = "df --output=avail --block-size=1 /srv/fast | tail -n 1"
    machine.sh(f"fallocate --length $(($({free}) - 100000000)) /srv/fast/film")
    held = "find /srv/fast /srv/models -printf '%p %i %s %m %T@ %C@\\n' | sort"
    before = machine.sh(held)
    done = machine.target.play(["model_cache"], {"model_cache_root": "/srv/fast/models"})
    assert done.code != 0
    told = " ".join(done.output.split())
    assert f"/srv/fast on {NVME} has 0.1 GB free of 6" in told
    assert "and /srv/models is 0.3 GB: nothing was copied" in told
    assert machine.sh(held) == before
    machine.sh("rm -r /srv/models /srv/fast/film")


# -- lost ones -------------------------------------------------------------------------------------------------------


def test_a_degraded_mirror_is_refused_with_what_is_left(machine: Machine) -> None:
    machine.drives.unplug("TWO")
    machine.sh("udevadm settle; sync")
    told = machine.refusal(*WANTED[2:])
    assert f"has a degraded mirror: {PAIR[0]} (on it: sd" in told
    assert f"of it {PAIR[1]} is gone" in told
    half = {**volume(PAIR[0]), "filesystem": "xfs"}
    done = machine.target.play(["storage"], {"storage_layout": [half], "storage_wipe": PAIR})
    assert done.code != 0
    assert f"is a degraded mirror on {PAIR[0]}" in " ".join(done.output.split())
    assert machine.sh("cat /srv/archive/models/weights").strip() == "kept"


def test_a_missing_archive_does_not_stop_a_boot(machine: Machine) -> None:
    machine.sh("umount /srv/archive; mdadm --stop /dev/md/*")
    machine.drives.unplug("ONE")
    machine.target.reboot()
    assert machine.sh("findmnt -no TARGET /srv/fast; findmnt -no TARGET /srv/archive || echo none").split() == [
        "/srv/fast", "none",
    ]  # fmt: skip
    assert f"lacks {PAIR[0]}, which the archive tier lies on" in machine.refusal(*WANTED[2:])


def test_disks_that_are_given_up_are_wiped_and_joined(machine: Machine) -> None:
    both = [by_id("EXT"), by_id("RAW")]
    spare = {**volume(both[0], 2), "name": "spare", "disks": both, "level": "lvm", "mountpoint": "/srv/spare"}
    given = {"storage_layout": [spare], "storage_wipe": both}
    done = machine.target.play(["storage"], given)
    assert done.code == 0, done.output[-3000:]
    assert machine.sh("findmnt -no FSTYPE /srv/spare; vgs --noheadings -o vg_name,pv_count").split() == [
        "ext4", "prov-spare", "2",
    ]  # fmt: skip
    assert machine.target.play(["storage"], given).came_to == (0, [])

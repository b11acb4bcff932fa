"""The tiers are there, on their own disks, whole, and come back at boot; disks are driven and watched as declared."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from testinfra.host import Host

from provision.model import HostPlan

Volume = Mapping[str, Any]
# Every whole disk with a scheduler: its kernel's name, whether it rotates, and the scheduler in brackets.
SCHEDULERS = r"""
for disk in /sys/block/nvme*n* /sys/block/sd*; do
    [ -e "$disk/queue/scheduler" ] || continue
    echo "${disk##*/} $(cat "$disk/queue/rotational") $(sed 's/.*\[\(.*\)\].*/\1/' "$disk/queue/scheduler")"
done
"""


@pytest.fixture(scope="module")
def tiers(plan: HostPlan) -> Sequence[Volume]:
    found: Sequence[Volume] = plan.settings["storage_layout"]
    return found


def mounted(host: Host, place: str) -> dict[str, str]:
    """What is mounted at a place; empty where nothing is."""
    answer = host.run("findmnt --json --output SOURCE,FSTYPE,OPTIONS,UUID --mountpoint %s", place)
    found: dict[str, str] = json.loads(answer.stdout)["filesystems"][0] if answer.rc == 0 else {}
    return found


def disks_below(host: Host, source: str) -> set[str]:
    rows = host.check_output("lsblk --inverse --list --noheadings --output NAME,TYPE %s", source).splitlines()
    return {f"/dev/{row.split()[0]}" for row in rows if row.split()[1] == "disk"}


def test_every_tier_is_mounted_with_its_file_system_and_options(host: Host, tiers: Sequence[Volume]) -> None:
    for tier in tiers:
        found = mounted(host, tier["mountpoint"])
        assert found, f"nothing is mounted at {tier['mountpoint']}"
        assert found["fstype"] == tier["filesystem"], f"{tier['mountpoint']} is {found['fstype']}"
        wanted = {option for option in tier["options"] if option in ("noatime", "prjquota")}
        assert wanted <= set(found["options"].split(",")), f"{tier['mountpoint']} is mounted with {found['options']}"


def test_every_tier_lies_on_its_own_disks(host: Host, tiers: Sequence[Volume]) -> None:
    for tier in tiers:
        wanted = {host.check_output("readlink -f /dev/disk/by-id/%s", name) for name in tier["disks"]}
        source = mounted(host, tier["mountpoint"]).get("source")
        assert source, f"nothing is mounted at {tier['mountpoint']}"
        assert disks_below(host, source) == wanted, f"{tier['mountpoint']} does not lie on {', '.join(tier['disks'])}"


def test_every_tier_comes_back_at_boot_and_its_absence_does_not_stop_one(host: Host, tiers: Sequence[Volume]) -> None:
    with host.sudo():
        record = json.loads(host.file("/var/lib/provision/storage/volumes.json").content_string) if tiers else {}
    for tier in tiers:
        line = host.run("findmnt --fstab --json --output SOURCE,OPTIONS %s", tier["mountpoint"])
        assert line.rc == 0, f"/etc/fstab does not mount {tier['mountpoint']}"
        found = json.loads(line.stdout)["filesystems"][0]
        assert found["source"] == f"UUID={record[tier['name']]['uuid']}", f"/etc/fstab mounts {found['source']}"
        assert set(tier["options"]) <= set(found["options"].split(",")), f"its options are {found['options']}"


def test_the_tiers_can_be_written_to(host: Host, tiers: Sequence[Volume]) -> None:
    """By root in each, and by anybody in the scratch directory."""
    for tier in tiers:
        with host.sudo():
            place = host.check_output("mktemp -p %s", tier["mountpoint"])
            assert host.check_output("echo kept > %s && sync %s && cat %s && rm %s", *[place] * 4) == "kept"
        for scratch in (path for path in tier["holds"] if path.endswith("/scratch")):
            with host.sudo("nobody"):
                assert host.check_output("f=$(mktemp -p %s) && echo kept > $f && cat $f && rm $f", scratch) == "kept"


def test_every_mirror_is_whole(host: Host, tiers: Sequence[Volume]) -> None:
    for tier in (tier for tier in tiers if tier["level"] == "mirror"):
        device = host.check_output(
            "basename $(readlink -f %s)", mounted(host, tier["mountpoint"]).get("source", "none")
        )
        lost = host.run("cat /sys/block/%s/md/degraded", device).stdout.strip()
        assert lost == "0", f"the mirror of {', '.join(tier['disks'])} lacks {lost or 'every'} half: see /proc/mdstat"


def test_disks_are_told_what_is_free(host: Host) -> None:
    timer = host.service("fstrim.timer")
    assert timer.is_enabled, "fstrim.timer is not enabled: NVMe disks are never told what is free"
    assert timer.is_running, "fstrim.timer does not wait for its time"


def test_every_disk_is_driven_as_declared(host: Host, plan: HostPlan) -> None:
    for line in host.check_output(SCHEDULERS).splitlines():
        name, rotates, scheduler = line.split()
        if name.startswith("nvme") or rotates == "1":
            wanted = plan.settings["storage_rotating_scheduler"] if rotates == "1" else "none"
            assert scheduler == wanted, f"the I/O scheduler of {name} is {scheduler} and not {wanted}"


def test_the_disks_health_is_watched(host: Host, plan: HostPlan) -> None:
    assert host.service("smartmontools.service").is_enabled, "smartd does not start at boot"
    said = host.check_output("systemctl show --property ActiveState,MainPID smartmontools.service")
    state = dict(line.split("=", 1) for line in said.splitlines())
    assert state["ActiveState"] == "active", "smartd does not run; see why: journalctl -u smartmontools"
    words = host.check_output("tr '\\0' ' ' < /proc/%s/cmdline", state["MainPID"])
    assert "--configfile=/etc/provision/smartd.conf" in words, f"smartd runs as {words}"
    told = host.file("/etc/provision/smartd.conf").content_string
    assert f"-m {plan.settings['storage_health_mail']} " in told, "smartd tells somebody else"


def test_no_disk_of_a_tier_says_that_it_fails(host: Host, tiers: Sequence[Volume]) -> None:
    for name in (name for tier in tiers for name in tier["disks"]):
        with host.sudo():
            told = json.loads(host.run("smartctl --health --json /dev/disk/by-id/%s", name).stdout)
        # A disk without SMART, as many a virtual one, says nothing; one that cannot be opened has no device.
        assert "device" in told, f"smartctl cannot ask {name}: {told}"
        assert told.get("smart_status", {}).get("passed", True), f"{name} says that it fails: save what is on it"


def test_limits_of_directories_are_in_force(host: Host, plan: HostPlan, tiers: Sequence[Volume]) -> None:
    for path, gigabytes in plan.settings["storage_quotas"].items():
        place = next(tier["mountpoint"] for tier in tiers if path.startswith(f"{tier['mountpoint']}/"))
        number = (zlib.crc32(path.encode()) & 0x7FFFFFFF) or 1
        with host.sudo():
            report = host.run("xfs_quota -x -c 'report -p -b -n -N' %s", place).stdout.splitlines()
            marked = host.run("lsattr -pd %s", path).stdout.split()
        hard = {row.split()[0]: int(row.split()[3]) for row in report if row.strip()}
        assert hard.get(f"#{number}", 0) * 1024 // 10**9 in (gigabytes, gigabytes - 1), f"{path} has no such limit"
        assert marked[:1] == [str(number)], f"the files in {path} do not count against its limit"
        assert "P" in marked[1], f"new files in {path} do not count against its limit"

"""What the role's module judges on the host at the last moment, on recorded answers of lsblk and wipefs."""

from __future__ import annotations

import ast
import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provision.content import load, roles_dir

ROLE = roles_dir() / "storage"
module = load(ROLE / "library" / "storage_volumes.py")
judge, tables, quotas, maker = (
    importlib.import_module(f"ansible.module_utils.storage_{part}") for part in ("disks", "tables", "quotas", "make")
)

EMPTY = {"name": "sdb", "type": "disk", "serial": "H1", "size": 4000}
NTFS = {**EMPTY, "pttype": "gpt", "children": [{"name": "sdb1", "type": "part", "fstype": "ntfs", "label": "Photos"}]}
MOUNTED = {**EMPTY, "children": [{"name": "sdb1", "type": "part", "fstype": "ext4", "mountpoint": "/data"}]}
ARRAY = {"name": "md127", "type": "raid1", "fstype": "xfs"}
MEMBER = {**EMPTY, "fstype": "linux_raid_member", "label": "box:0", "children": [ARRAY, ARRAY]}
LVM = {**EMPTY, "fstype": "LVM2_member", "children": [{"name": "vg-data", "type": "lvm", "fstype": "ext4"}]}
VOLUME = {
    "name": "fast", "disks": ["nvme-F_F1"], "level": "single", "filesystem": "xfs", "mountpoint": "/srv/fast",
    "options": ["noatime", "nofail"], "size_gb": 2000, "holds": [],
}  # fmt: skip


def disk(entry: dict[str, Any], *signed: str, name: str = "ata-Hdd_H1") -> Any:
    return judge.describe(name, "/dev/sdb", entry, list(signed))


@pytest.mark.parametrize(
    ("entry", "signed", "on_it"),
    [
        (EMPTY, (), []),
        (NTFS, ("gpt", "gpt", "PMBR"), ["sdb: gpt partition table", "sdb1: ntfs labelled Photos"]),
        (MOUNTED, (), ["sdb1: ext4 on /data"]),
        (MEMBER, ("linux_raid_member",), ["sdb: linux_raid_member labelled box:0", "md127: xfs"]),
        (EMPTY, ("xfs",), ["sdb: xfs"]),  # udev did not see it yet: the disk itself has the last word
        (EMPTY, ("PMBR",), ["sdb: PMBR"]),
    ],
)
def test_what_is_on_a_disk(entry: dict[str, Any], signed: tuple[str, ...], on_it: list[str]) -> None:
    assert disk(entry, *signed).on_it == on_it


def test_an_empty_disk_may_be_taken_and_one_that_is_given_up_by_name() -> None:
    assert judge.objection(disk(EMPTY), may_wipe=False) == ""
    assert judge.objection(disk(NTFS), may_wipe=True) == ""


@pytest.mark.parametrize(
    ("entry", "may_wipe", "said"),
    [
        (
            NTFS,
            False,
            "ata-Hdd_H1 is not empty: on it is sdb: gpt partition table, sdb1: ntfs labelled Photos; name an",
        ),
        (MOUNTED, True, "ata-Hdd_H1 is in use and is never written to: on it is sdb1: ext4 on /data"),
        (MEMBER, True, "ata-Hdd_H1 is held by md127: on it is sdb: linux_raid_member labelled box:0, md127: xfs; stop"),
        (LVM, True, "ata-Hdd_H1 is held by vg-data"),
        ({**EMPTY, "serial": "H2"}, True, "ata-Hdd_H1 leads to a disk whose serial number is H2"),
    ],
)
def test_it_is_refused_by_name_and_with_what_is_on_it(entry: dict[str, Any], may_wipe: bool, said: str) -> None:
    assert judge.objection(disk(entry), may_wipe=may_wipe).startswith(said)


@pytest.mark.parametrize("at", [0, 4095, (1 << 24) - 1])
def test_data_that_bears_no_signature_are_found(tmp_path: Path, at: int) -> None:
    raw = tmp_path / "sdb"
    raw.write_bytes(bytes(1 << 24))
    looked_at = disk({**EMPTY, "size": 1 << 24})._replace(node=str(raw))
    assert judge.remains(looked_at) == []
    with raw.open("r+b") as stream:
        stream.seek(at)
        stream.write(b"x")
    assert judge.remains(looked_at) == ["sdb: data without a signature"]


def test_a_name_that_leads_to_no_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "BY_ID", f"{tmp_path}/")
    with pytest.raises(judge.Trouble, match="nvme-F_F1 is not there"):
        judge.look("nvme-F_F1", None)
    (tmp_path / "nvme-F_F1").touch()
    part = json.dumps({"blockdevices": [{**EMPTY, "type": "part"}]})
    with pytest.raises(judge.Trouble, match="nvme-F_F1 is no whole disk"):
        judge.look("nvme-F_F1", lambda _: (0, part, ""))
    with pytest.raises(judge.Trouble, match="lsblk says: not a block device"):
        judge.look("nvme-F_F1", lambda _: (1, "", "not a block device\n"))


def test_a_disk_of_another_size_than_planned_is_another_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "look", lambda name, _: disk({**EMPTY, "serial": "F1", "size": 10**12}, name=name))
    monkeypatch.setattr(module, "remains", lambda _: [])
    with pytest.raises(judge.Trouble, match="nvme-F_F1 has 1000 GB, and 2000 GB were planned"):
        module.judged(SimpleNamespace(run=None), VOLUME, [])


# -- tables ----------------------------------------------------------------------------------------------------------

ROOT = "# the admin's own\nLABEL=root / ext4 errors=remount-ro 0 1\n"
LINE = "# provision (role storage): the tier fast\nUUID=u1 /srv/fast xfs noatime,nofail 0 0\n"


def test_fstab_gains_one_line_by_uuid_and_keeps_it() -> None:
    once = tables.fstab(ROOT, [VOLUME], {"fast": "u1"})
    assert once == ROOT + LINE
    assert tables.fstab(once, [VOLUME], {"fast": "u1"}) == once
    moved = tables.fstab(once, [{**VOLUME, "mountpoint": "/mnt/my disk"}], {"fast": "u1"})
    assert moved == ROOT + LINE.replace("/srv/fast", "/mnt/my\\040disk")


def test_a_place_that_somebody_else_mounts_is_refused() -> None:
    with pytest.raises(judge.Trouble, match="/etc/fstab mounts /dev/sdx1 at /srv/fast already"):
        tables.fstab(ROOT + "/dev/sdx1 /srv/fast ext4 defaults 0 2\n", [VOLUME], {"fast": "u1"})
    commented = ROOT + "# /dev/sdx1 /srv/fast ext4 defaults 0 2\n"
    assert tables.fstab(commented, [VOLUME], {"fast": "u1"}) == commented + LINE


def test_ext4_is_checked_at_boot() -> None:
    assert tables.fstab_line({**VOLUME, "filesystem": "ext4"}, "u1").endswith(" 0 2")


def test_mounts_are_read_with_their_options() -> None:
    text = "36 1 259:0 / /srv/my\\040disk rw,noatime shared:1 - xfs /dev/nvme0n1 rw,prjquota\n"
    found = tables.mounts(text)["/srv/my disk"]
    assert (found.number, found.filesystem) == ("259:0", "xfs")
    assert {"noatime", "prjquota"} <= found.options


def test_a_record_that_is_damaged_stops_everything(tmp_path: Path) -> None:
    path = tmp_path / "volumes.json"
    assert tables.read_record(str(path)) == {}
    tables.write_record({"fast": {"uuid": "u1"}}, str(path))
    assert tables.read_record(str(path)) == {"fast": {"uuid": "u1"}}
    path.write_text("{")
    with pytest.raises(judge.Trouble, match="is not JSON any more"):
        tables.read_record(str(path))


# -- what writes -----------------------------------------------------------------------------------------------------


class Recorder:
    """Stands in for the host: remembers commands, answers by the first word."""

    def __init__(self, **answers: str) -> None:
        self.said: list[str] = []
        self.done: list[str] = []
        self.answers = answers

    def must(self, *argv: str) -> str:
        self.said.append(" ".join(argv))
        return self.answers.get(argv[0], "")


def test_an_empty_disk_is_not_wiped_and_a_given_up_one_is_with_its_partitions() -> None:
    host = Recorder()
    maker.start_over(host, disk(EMPTY))
    assert host.said == []
    maker.start_over(host, disk(NTFS))
    assert host.said[:2] == ["wipefs --all --quiet /dev/sdb1", "wipefs --all --quiet /dev/sdb"]
    assert host.done == ["everything on ata-Hdd_H1 is gone: sdb: gpt partition table, sdb1: ntfs labelled Photos"]


def test_no_command_that_makes_a_file_system_is_forced() -> None:
    host = Recorder()
    for filesystem in ("xfs", "ext4"):
        maker.make_filesystem(host, "/dev/sdb", {**VOLUME, "filesystem": filesystem}, "u1")
    assert not [line for line in host.said if " -f" in line or " -F" in line or "--force" in line]
    assert ["u1" in line for line in host.said if line.startswith("mkfs")] == [True, True]


def test_labels_fit_the_file_system() -> None:
    assert all(len(maker.LABEL % name) <= 12 for name in ("fast", "archive"))


def test_a_limit_counts_only_where_the_directory_belongs_to_its_project() -> None:
    path = "/srv/fast/scratch"
    number = quotas.project(path)
    report = f"#0          0          0          0     00 [--------]\n#{number}   8   0   1953125     00 [--------]\n"
    host = Recorder(lsattr=f"{number} -----------------P---- {path}\n", xfs_quota=report)
    assert quotas.limit_of(host, "/srv/fast", path) == 2
    host.answers["lsattr"] = f"0 ---------------------- {path}\n"
    assert quotas.limit_of(host, "/srv/fast", path) == 0


def test_the_modules_are_written_for_the_oldest_python_of_a_target() -> None:
    for file in (*(ROLE / "library").glob("*.py"), *(ROLE / "module_utils").glob("*.py")):
        ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_a_tier_is_known_by_the_nodes_of_its_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("sda/sda1/partition", "sdb", "md127/slaves"):
        (tmp_path / "devices" / place).mkdir(parents=True)
    (tmp_path / "block").mkdir()
    for place in ("sda/sda1", "sdb", "md127"):
        (tmp_path / "block" / Path(place).name).symlink_to(tmp_path / "devices" / place)
    for place in ("sda/sda1", "sdb"):
        (tmp_path / "devices/md127/slaves" / Path(place).name).symlink_to(tmp_path / "devices" / place)
    monkeypatch.setattr(judge, "SYS", f"{tmp_path}/block/")
    (tmp_path / "archive").symlink_to("/dev/md127")
    assert judge.nodes_below(str(tmp_path / "archive")) == ["/dev/sda", "/dev/sdb"]
    assert judge.nodes_below("/dev/sda1") == ["/dev/sda"]

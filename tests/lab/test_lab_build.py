"""Images made beforehand, side by side; what takes long is told; roots are made where there is room for them."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from provision import lab
from provision.errors import ProvisionError, refuse
from provision.lab import building, roots, steps
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_containers_and_each_machine_are_made_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(3, timeout=60)  # all three have to be there at the same time
    made: list[str] = []

    def containers(names: Sequence[str]) -> None:
        together.wait()
        made.extend(names)

    def machine(name: str) -> object:
        return lambda: (together.wait(), made.append(name))

    monkeypatch.setattr(building, "_containers", containers)
    monkeypatch.setattr(building, "_machine", machine)
    lab.build(["debian-12", "vm-debian-12", "debian-12-bare", "vm-debian-12-build"])
    assert sorted(made) == ["debian-12", "debian-12-bare", "vm-debian-12", "vm-debian-12-build"]
    assert made.index("debian-12") < made.index("debian-12-bare")


def test_every_fault_is_said_and_the_roots_are_kept_for_the_next_try(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> object:
        def make() -> None:
            raise refuse(f"lab image {name}", "does not boot", "look")

        return make

    monkeypatch.setattr(building, "_machine", fails)
    roots.folder().mkdir(parents=True)
    archive = roots.folder() / "debian-bookworm-0123456789ab.tar"
    archive.touch()
    with pytest.raises(ProvisionError) as caught:
        lab.build(["vm-debian-12", "vm-debian-12-build"])
    assert [refusal.subject for refusal in caught.value.refusals] == [
        "lab image vm-debian-12", "lab image vm-debian-12-build",
    ]  # fmt: skip
    assert archive.exists()
    monkeypatch.setattr(building, "_machine", lambda _name: lambda: None)
    lab.build(["vm-debian-12"])
    assert not archive.exists()


def test_an_unknown_image_is_refused_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_machine", lambda _name: pytest.fail("made"))
    with pytest.raises(ProvisionError, match="lab image 'debian-11' does not exist"):
        lab.build(["debian-11"])


def test_a_step_is_told_when_it_begins_and_how_it_ends() -> None:
    told: list[str] = []
    with steps.told_to(told.append):
        with steps.step("image one"):
            assert told == ["image one ..."]
        with pytest.raises(ValueError, match="broken"), steps.step("image two"):
            raise ValueError("broken")
    with steps.step("image three"):
        pass
    assert told == ["image one ...", "image one: 0 s", "image two ...", "image two: failed after 0 s"]


@pytest.mark.parametrize(
    ("available", "user", "in_memory"), [(8 << 20, 0, True), (4 << 20, 0, False), (8 << 20, 1, False)]
)
def test_packages_are_installed_in_memory_where_it_is_plenty_and_root_may_mount_it(
    available: int, user: int, in_memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal:       24000000 kB\nMemAvailable:   {available} kB\n")
    monkeypatch.setattr(roots, "MEMINFO", meminfo)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    argv = roots.in_memory(tmp_path, ["mmdebstrap", "bookworm"])
    assert argv[-2:] == ["mmdebstrap", "bookworm"]
    assert ("unshare" in argv) is in_memory


def test_a_root_of_yesterday_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def make(root: roots.Root, base: Path | None, archive: Path) -> None:
        made.append(f"{root.name} over {base.name.partition('-')[0] if base else 'nothing'}")
        archive.touch()

    monkeypatch.setattr(roots, "_make", make)
    ground = roots.Root("ground", "bookworm", ("systemd",))
    house = roots.Root("house", "bookworm", ("grub-pc",), ground)
    archive = roots.ensure(house)
    assert roots.ensure(house) == archive
    assert made == ["ground over nothing", "house over ground"]
    os.utime(archive, (0, 0))
    assert roots.ensure(house).exists()
    assert made[2:] == ["house over ground"]
    assert sorted(path.name for path in roots.folder().glob(".*")) == []


def test_a_disk_that_is_too_small_ends_the_run_before_it_begins(tmp_path: Path) -> None:
    df = tmp_path / "df"
    df.write_text("#!/bin/sh\nprintf 'Filesystem 1024-blocks Used Available\\n/dev/x 9000000 1 2048000\\n'\n")
    df.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "none")}
    done = subprocess.run(
        [ROOT / "tools" / "test"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert done.returncode == 2
    assert f"the disk of {tmp_path} has 2000 MiB free, and a first run needs " in done.stderr
    assert not (tmp_path / "none").exists()

"""Directories that move to another disk: proved before they take their name, and the old copy stays."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provision.content import load, playbooks_dir

module = load(playbooks_dir() / "library" / "provision_move.py")


class Ansible:
    """Stands in for AnsibleModule: runs cp, remembers systemctl, whose units are all running."""

    def __init__(self, check: bool = False, stop: tuple[str, ...] = (), failing: str = "") -> None:
        self.check_mode, self.params = check, {"stop": list(stop)}
        self.failing = failing
        self.said: list[str] = []

    def run_command(self, argv: list[str], **_: Any) -> tuple[int, str, str]:
        self.said.append(" ".join(argv))
        if argv[0] == "systemctl":
            return int(argv[1] == self.failing), "", "no such luck"
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(autouse=True)
def no_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs on the machine of the tests."""
    monkeypatch.setattr(module, "containers", lambda: 0)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A tree with everything that a copy can lose."""
    top = tmp_path / "old"
    (top / "layers").mkdir(parents=True)
    (top / "layers" / "one").write_text("content")
    os.link(top / "layers" / "one", top / "layers" / "same")
    (top / "link").symlink_to("layers/one")
    (top / "private").mkdir(mode=0o710)
    os.setxattr(top / "layers" / "one", "user.kind", b"layer")
    return top


def tree(top: Path) -> Mapping[str, Any]:
    return {str(path.relative_to(top)): module.likeness(str(path)) for path in top.rglob("*")}


def test_a_copy_is_the_same_and_the_old_one_stays(old: Path, tmp_path: Path) -> None:
    before, new = tree(old), tmp_path / "fast" / "docker"
    moves = module.due([{"source": str(old), "target": f"{new}/"}])
    assert moves == [(str(old), str(new))]
    module.move(Ansible(), moves)
    assert tree(new) == tree(old) == before
    assert [path.name for path in new.parent.iterdir()] == ["docker"]
    assert module.due([{"source": str(old), "target": str(new)}]) == []  # a second run finds nothing to do


@pytest.mark.parametrize("target", ["", "same", "taken"])
def test_nothing_is_moved_onto_something_or_to_no_place(old: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    places = {"": "", "same": f"{old}/", "taken": str(tmp_path / "taken")}
    assert module.due([{"source": str(old), "target": places[target]}]) == []


def test_check_mode_copies_nothing(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "containers", int)  # whatever runs on this machine
    ansible = Ansible(check=True, stop=("docker.service",))
    module.move(ansible, [(str(old), str(tmp_path / "new"))])
    assert ansible.said == []
    assert not (tmp_path / "new").exists()


def test_what_does_not_fit_is_refused_before_anything_is_copied(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (old / "big").write_bytes(os.urandom(200_000))
    room = SimpleNamespace(f_bavail=50, f_frsize=4096, f_blocks=500_000)
    monkeypatch.setattr(module.os, "statvfs", lambda _: room)
    monkeypatch.setattr(module, "stable_names", lambda _: ["nvme-Fast_F1"])
    said = rf"{old.parent} on nvme-Fast_F1 has 0.0 GB free of 2.0 GB, and {old} is 0.0 GB: nothing was copied"
    with pytest.raises(module.Trouble, match=said):
        module.judge([(str(old), str(old.parent / "new"))])
    assert not (old.parent / "new").exists()
    module.judge([(str(old), str(old.parent / "not-mounted-yet" / "new"))], check=True)


def test_running_containers_keep_their_files(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "containers", lambda: 2)
    ansible = Ansible(stop=("docker.service",))
    with pytest.raises(module.Trouble, match="2 containers run"):
        module.move(ansible, [(str(old), str(tmp_path / "new"))])
    assert ansible.said == []


def test_only_dockers_containers_count(tmp_path: Path) -> None:
    counted = load(playbooks_dir() / "library" / "provision_move.py").containers
    shim = "/usr/bin/containerd-shim-runc-v2\0-namespace\0moby\0-id\0a1\0-address\0{}/containerd/containerd.sock\0"
    lines = ("/sbin/init\0", shim.format("/run"), shim.format("/run/k3s"), shim.format("/var/run/docker"), "")
    for number, line in enumerate(lines, 1):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "cmdline").write_text(line)
    assert counted(str(tmp_path)) == 2


def spoil(path: Path) -> None:
    (path / "layers" / "one").write_text("CONTENT")


def lose(path: Path) -> None:
    (path / "link").unlink()


def add(path: Path) -> None:
    (path / "stranger").touch()


def open_up(path: Path) -> None:
    (path / "private").chmod(0o755)


@pytest.mark.parametrize("harm", [spoil, lose, add, open_up])
def test_a_copy_that_differs_never_takes_the_name(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Any
) -> None:
    before, new = tree(old), tmp_path / "new"

    class Harming(Ansible):
        def run_command(self, argv: list[str], **known: Any) -> tuple[int, str, str]:
            answer = super().run_command(argv, **known)
            if argv[0] == "cp":
                harm(Path(argv[-1]))
            return answer

    ansible = Harming(stop=("docker.service",))
    with pytest.raises(module.Trouble, match=r"the copy of .* differs at"):
        module.move(ansible, [(str(old), str(new))])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]
    assert tree(old) == before
    assert ansible.said[-1] == "systemctl start docker.service"


def test_a_file_that_goes_while_it_is_compared_leaves_no_unit_stopped(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: str) -> None:
        raise FileNotFoundError(2, "No such file or directory", path)

    monkeypatch.setattr(module, "likeness", gone)
    ansible = Ansible(stop=("docker.service",))
    with pytest.raises(module.Trouble, match=r"old was not copied: .*No such file"):
        module.move(ansible, [(str(old), str(tmp_path / "new"))])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]
    assert ansible.said[-1] == "systemctl start docker.service"


def test_units_of_which_one_does_not_stop_all_run_again(old: Path, tmp_path: Path) -> None:
    ansible = Ansible(stop=("docker.socket", "docker.service"), failing="stop")
    with pytest.raises(module.Trouble, match=r"docker.socket and docker.service did not stop.*: no such luck"):
        module.move(ansible, [(str(old), str(tmp_path / "new"))])
    assert not (tmp_path / "new").exists()
    assert ansible.said[-1] == "systemctl start docker.socket docker.service"


def test_a_unit_that_does_not_start_again_is_named(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "difference", lambda *_: "layers/one")
    with pytest.raises(module.Trouble, match=r"differs at .*; and they did not start again: docker.service"):
        module.move(Ansible(stop=("docker.service",), failing="start"), [(str(old), str(tmp_path / "new"))])

"""A user on cgroup v1: the lab asks sudo for the same command line, and what root wrote is the user's afterwards."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from provision.cli import asroot
from provision.cli import lab as cli
from provision.lab import container, system

SUDO = """#!/bin/sh
[ "$1" = -n ] && shift
[ "$1" = true ] && exit {code}
exec "$@"
"""


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user's home on a machine with cgroup v1, without XDG's variables."""
    for variable in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", asroot.OWNER):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(system, "machine", lambda: system.Machine(False, False, False))
    monkeypatch.setattr("sys.argv", ["provision", "lab", "list"])
    return tmp_path


def sudo_answers(code: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sudo that lets this user do things, or does not."""
    program = folder / "bin" / "sudo"
    program.parent.mkdir()
    program.write_text(SUDO.format(code=code))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_a_user_who_may_use_sudo_becomes_root_with_the_same_folders(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sudo_answers(0, home, monkeypatch)
    monkeypatch.setenv("PIP_FIND_LINKS", "/opt/my wheels")
    monkeypatch.setenv("SECRET", "stays")
    ran: list[list[str]] = []

    def become(_program: str, argv: list[str]) -> None:
        ran.append(argv)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execvp", become)
    assert CliRunner().invoke(cli.lab, ["list"]).exit_code == 0
    [argv] = ran
    assert argv[:3] == ["sudo", "-n", "env"]
    assert argv[-4:] == ["-m", "provision", "lab", "list"]
    words = dict(word.split("=", 1) for word in argv if "=" in word)
    assert words["XDG_STATE_HOME"] == str(home / ".local/state")
    assert words["XDG_CACHE_HOME"] == str(home / ".cache")
    assert words["PIP_FIND_LINKS"] == "/opt/my wheels"
    assert words["PATH"].endswith(":/usr/sbin:/sbin")
    assert words[asroot.OWNER] == f"{os.geteuid()}:{os.getegid()}"
    assert "SECRET" not in words
    assert (home / ".local/state/provision").is_dir()  # made by the user, so the user's


def test_a_user_who_may_not_is_told_a_command_that_works_as_pasted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sudo_answers(1, home, monkeypatch)
    done = CliRunner().invoke(cli.lab, ["list"])
    assert done.exit_code == 2
    assert "needs root here: this machine mounts cgroup v1" in done.output
    pasted = next(line.partition("sudo ")[2] for line in done.output.splitlines() if "run it as root: " in line)
    assert shlex.split(pasted) == asroot.command(["lab", "list"])[1:]


def test_root_gives_the_users_files_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    given: list[tuple[str, int, int, bool]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        os, "chown", lambda path, uid, gid, *, follow_symlinks: given.append((str(path), uid, gid, follow_symlinks))
    )
    key = tmp_path / "provision/lab/hosts/one/key"
    key.parent.mkdir(parents=True)
    key.symlink_to("/etc/shadow")
    asroot.give_back()
    assert given == []  # for itself root keeps what it wrote
    monkeypatch.setenv(asroot.OWNER, "1000:1001")
    asroot.give_back()
    assert {path for path, *_ in given} == {
        str(tmp_path / "provision/lab" / each) for each in ("", "hosts", "hosts/one", "hosts/one/key")
    }  # fmt: skip
    assert {each[1:] for each in given} == {(1000, 1001, False)}  # of a link the link, never what it names


def test_nobody_is_asked_where_users_have_their_own_cgroups(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "machine", lambda: system.Machine(False, True, False))
    monkeypatch.setattr(os, "execvp", lambda *_: pytest.fail("sudo was asked"))
    monkeypatch.setattr(container, "states", dict)
    assert CliRunner().invoke(cli.lab, ["list"]).exit_code == 0

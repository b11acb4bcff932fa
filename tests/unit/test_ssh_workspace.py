"""The ssh configuration that all parts of a run share, and what becomes of a run's files."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from provision.engine import ssh
from provision.engine.workspace import Workspace
from provision.errors import ProvisionError
from provision.model import Host

USERS = """\
Host alias
    HostName 192.0.2.9
    Port 2022
    User ann
    ProxyJump gate
    StrictHostKeyChecking no
    ControlPath /tmp/mine
Host *
    IdentityFile ~/.ssh/special
"""


def settings(host: Host, tmp_path: Path) -> dict[str, str]:
    config = tmp_path / "config"
    config.write_text(USERS, encoding="utf-8")
    with Workspace([host], user_config=config) as workspace:
        return ssh.settings(workspace, host)


def test_an_alias_of_the_users_is_honoured_but_cannot_weaken_the_run(tmp_path: Path) -> None:
    known = settings(Host("alias"), tmp_path)
    assert (known["hostname"], known["port"], known["user"]) == ("192.0.2.9", "2022", "ann")
    assert known["proxyjump"] == "gate"
    assert known["identityfile"] == "~/.ssh/special"
    assert known["stricthostkeychecking"] == "true"
    assert known["batchmode"] == "yes"
    assert known["controlpath"] != "/tmp/mine"


def test_what_the_user_gave_stands_above_the_alias(tmp_path: Path) -> None:
    known = settings(Host("alias", "2001:db8::7", 2200, "root", "/keys/with space"), tmp_path)
    assert (known["hostname"], known["port"], known["user"]) == ("2001:db8::7", "2200", "root")
    assert known["identityfile"] == "/keys/with space"


@pytest.mark.parametrize("args", [("-o", "ProxyJump=b", "-oCompression=yes", "-i", "/k", "-4"),
                                  ("-J b -o 'Compression yes' -i /k -4",)], ids=["words", "one-string"])  # fmt: skip
def test_common_args_hold_for_every_part(args: tuple[str, ...], tmp_path: Path) -> None:
    known = settings(Host("box", ssh_args=args), tmp_path)
    assert known["proxyjump"] == "b"
    assert known["compression"] == "yes"
    assert known["identityfile"] == "/k"
    assert known["addressfamily"] == "inet"


def test_common_args_cannot_weaken_the_run(tmp_path: Path) -> None:
    known = settings(Host("box", ssh_args=("-o", "StrictHostKeyChecking=no", "-o", "ControlMaster=no")), tmp_path)
    assert known["stricthostkeychecking"] == "true"
    assert known["controlmaster"] == "auto"


@pytest.mark.parametrize(
    ("host", "fact"),
    [
        (Host("-oProxyCommand=x"), "has the name '-oProxyCommand=x', which ssh cannot take"),
        (Host("a b"), "has the name 'a b', which ssh cannot take"),
        (Host("web*"), "is not a host name: ssh would read it as an option or a pattern"),
        (Host("!web"), "is not a host name: ssh would read it as an option or a pattern"),
        (Host("web", user="x\nProxyCommand evil"), "has the user 'x\\nProxyCommand evil', which ssh cannot take"),
        (Host("web", address="-x"), "has the address '-x', which ssh cannot take"),
        (Host("web", identity_file='a"b'), "has an ssh option that ssh cannot take: 'a\"b'"),
        (Host("web", ssh_args=("-o", "User=x\nProxyCommand=evil")), "has an ssh argument that ssh cannot take"),
        (Host("web", ssh_args=("-D", "1080")), "has the ssh argument '-D', which provision cannot share"),
        (Host("web", ssh_args=("-J",)), "has the ssh argument '-J' without its value"),
    ],
    ids=lambda value: None if isinstance(value, Host) else "fact",
)
def test_what_ssh_would_misread_is_refused(host: Host, fact: str) -> None:
    with pytest.raises(ProvisionError) as caught, Workspace([host]):
        pass
    assert fact in caught.value.refusals[0].fact


def test_all_bad_hosts_are_told_at_once() -> None:
    with pytest.raises(ProvisionError) as caught, Workspace([Host("a b"), Host("good"), Host("c*")]):
        pass
    assert len(caught.value.refusals) == 2


def test_a_machine_without_ssh_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProvisionError) as caught, Workspace([Host("box")], tmp_path / "run"):
        pass
    assert str(caught.value) == "this machine has no ssh command"
    assert caught.value.refusals[0].hint.startswith("apt-get install openssh-client")
    assert not (tmp_path / "run").exists()


def test_the_runs_files_are_private_and_the_rest_is_gone(tmp_path: Path) -> None:
    kept = tmp_path / "run"
    with Workspace([Host("box")], kept) as workspace:
        workspace.hide("correct horse")
        workspace.log("the word is correct horse\n")
        runtime = workspace.runtime
        for path, mode in ((kept, 0o700), (runtime, 0o700), (workspace.ssh_config, 0o600), (kept / "run.log", 0o600)):
            assert stat.S_IMODE(path.stat().st_mode) == mode
        assert len(str(runtime / "s")) + 41 + 17 <= 107
    assert not runtime.exists()
    assert "the word is [redacted]" in (kept / "run.log").read_text(encoding="utf-8")


def test_what_a_killed_run_left_is_swept_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/tmp")
    with Workspace([Host("box")]) as living:
        dead = living.runtime.with_name("provision-unit-dead")
        dead.mkdir()
        (dead / "plans.json").write_text("{}", encoding="utf-8")
        ended = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout
        (dead / "controller.pid").write_text(ended, encoding="utf-8")
        with Workspace([Host("box")]):
            assert not dead.exists()
            assert living.runtime.exists()


def test_a_runs_secrets_lie_in_memory_where_they_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with Workspace([Host("box")]) as workspace:
        assert workspace.runtime.parent == Path("/dev/shm")
    monkeypatch.setattr(os, "access", lambda path, _: path != "/dev/shm")
    with Workspace([Host("box")]) as workspace:
        assert workspace.runtime.parent == Path(tempfile.gettempdir())


def test_a_long_temporary_directory_is_no_place_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    with Workspace([Host("box")]) as workspace:
        assert not workspace.runtime.is_relative_to(long)


def test_a_secret_pipe_serves_one_reader_and_leaves_nothing() -> None:
    with Workspace([Host("box")]) as workspace:
        with workspace.secret_pipe("correct horse") as path:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert subprocess.run(["cat", path], capture_output=True, check=True).stdout == b"correct horse"
        assert not path.exists()
        with workspace.secret_pipe("never read") as path:
            assert stat.S_ISFIFO(os.lstat(path).st_mode)
        assert not [thread for thread in threading.enumerate() if "feed" in thread.name]

"""A host's key: read from a real SSH server in this process, and remembered in known_hosts files of every kind."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from provision.engine.trust import HostKey, fetch_host_key, remember
from provision.errors import ProvisionError
from provision.model import Host

OTHER = "AAAAC3NzaC1lZDI1NTE5AAAAIBKuOpcCk8SOVW5Ql6M0H9ZyEPoydB1jkKpFw5Xc9Hq0"
NEW = "AAAAC3NzaC1lZDI1NTE5AAAAIMLOe8mN+mh7tND3tRnjMk6sJLTc+/ylwf6VbMRQ0wfb"
KEY = HostKey("ssh-ed25519", NEW, "SHA256:swsF6t+IM+bpF5XR3q0Y5bBBWB0Veha0zkWlBKczxoM")


class Place:
    """A user's ssh configuration and known_hosts."""

    def __init__(self, folder: Path) -> None:
        self.known = folder / "known_hosts"
        self.config = folder / "config"
        self.configure("")

    def configure(self, more: str) -> None:
        text = f"HashKnownHosts no\nUserKnownHostsFile {self.known}\nHost alias\n  HostName Box.Example\n{more}"
        self.config.write_text(text, encoding="utf-8")

    def remember(self, host: Host, key: HostKey = KEY, *, replace: bool = False, new: bool = True) -> list[str]:
        assert remember(host, key, replace=replace, user_config=self.config) == (self.known, new)
        return self.known.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def server() -> Iterator[tuple[int, paramiko.PKey]]:
    """The port of an SSH server that shows a key and lets nobody in."""
    key = paramiko.RSAKey.generate(2048)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                channel, _ = listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(channel)
            transport.add_server_key(key)
            transport.start_server(event=threading.Event(), server=paramiko.ServerInterface())

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1], key
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_the_key_and_its_fingerprint_are_what_ssh_keygen_says(
    server: tuple[int, paramiko.PKey], place: Place, tmp_path: Path
) -> None:
    port, key = server
    fetched = fetch_host_key(Host("box", "127.0.0.1", port), place.config)
    assert (fetched.kind, fetched.blob) == (key.get_name(), key.get_base64())
    public = tmp_path / "key.pub"
    public.write_text(f"{fetched.kind} {fetched.blob}\n", encoding="utf-8")
    told = subprocess.run(["ssh-keygen", "-lf", public], capture_output=True, text=True, check=True).stdout
    assert told.split()[1] == fetched.fingerprint


def test_the_key_is_fetched_through_a_proxy_command(server: tuple[int, paramiko.PKey], place: Place) -> None:
    port, key = server
    relay = (
        "import os,socket,sys,threading\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def up():\n    while data := os.read(0, 4096): s.sendall(data)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := s.recv(4096): os.write(1, data)\n"
    )
    script = place.config.with_name("relay.py")
    script.write_text(relay, encoding="utf-8")
    place.configure(
        f"Host behind\n  HostName 127.0.0.1\n  Port {port}\n  ProxyCommand {sys.executable} {script} %h %p\n"
    )
    assert fetch_host_key(Host("behind"), place.config).blob == key.get_base64()


def test_what_the_proxy_says_is_told(place: Place) -> None:
    place.configure("Host behind\n  ProxyCommand no-such-command %h\n")
    with pytest.raises(ProvisionError) as caught:
        fetch_host_key(Host("behind"), place.config)
    assert str(caught.value) == "behind is reached through a ProxyCommand that does not exist on this machine"


def test_a_refused_port_and_a_stranger_are_told(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ProvisionError) as caught:
        fetch_host_key(Host("box", "127.0.0.1", port), place.config)
    assert str(caught.value) == f"box does not answer on port {port}: Connection refused"
    with pytest.raises(ProvisionError) as caught:
        fetch_host_key(Host("no-such-host.invalid"), place.config)
    assert str(caught.value) == "no-such-host.invalid does not resolve to an address"


def test_a_key_is_remembered_under_the_name_that_ssh_looks_for(place: Place) -> None:
    assert place.remember(Host("alias")) == [f"box.example ssh-ed25519 {NEW}"]
    assert place.remember(Host("alias", port=2022))[1:] == [f"[box.example]:2022 ssh-ed25519 {NEW}"]
    assert place.remember(Host("alias", "2001:db8::7"))[2:] == [f"2001:db8::7 ssh-ed25519 {NEW}"]
    assert stat.S_IMODE(place.known.stat().st_mode) == 0o600


def test_names_are_hashed_where_the_user_wants_it_and_ssh_finds_them(place: Place) -> None:
    place.config.write_text(f"HashKnownHosts yes\nUserKnownHostsFile {place.known}\n", encoding="utf-8")
    (line,) = place.remember(Host("box"))
    assert line.startswith("|1|")
    found = subprocess.run(["ssh-keygen", "-F", "box", "-f", place.known], capture_output=True, text=True, check=True)
    assert NEW in found.stdout


def test_remembering_twice_changes_nothing(place: Place) -> None:
    before = place.remember(Host("box"))
    stamp = place.known.stat().st_mtime_ns
    assert place.remember(Host("box"), new=False) == before
    assert place.known.stat().st_mtime_ns == stamp


def test_another_key_is_only_replaced_when_asked_to(place: Place) -> None:
    old = f"# mine\n\nbox,friend ssh-ed25519 {OTHER}\n@revoked box ssh-ed25519 {OTHER}\nx ssh-rsa AAAA note\n"
    place.known.write_text(old, encoding="utf-8")
    place.known.chmod(0o640)
    with pytest.raises(ProvisionError) as caught:
        place.remember(Host("box"))
    assert str(caught.value) == f"box has another key in {place.known}, line 3"
    assert caught.value.refusals[0].hint == "only if you know why it changed: provision trust --replace box"
    assert place.known.read_text(encoding="utf-8") == old
    assert place.remember(Host("box"), replace=True) == [
        "# mine",
        "",
        f"friend ssh-ed25519 {OTHER}",
        f"@revoked box ssh-ed25519 {OTHER}",
        "x ssh-rsa AAAA note",
        f"box ssh-ed25519 {NEW}",
    ]
    assert stat.S_IMODE(place.known.stat().st_mode) == 0o640


def test_a_hashed_entry_is_replaced_as_well(place: Place) -> None:
    place.known.write_text(f"{paramiko.HostKeys.hash_host('box')} ssh-ed25519 {OTHER}\n", encoding="utf-8")
    assert place.remember(Host("box"), replace=True) == [f"box ssh-ed25519 {NEW}"]


def test_a_link_stays_a_link(place: Place) -> None:
    real = place.known.with_name("real")
    real.write_text("", encoding="utf-8")
    place.known.symlink_to(real)
    assert place.remember(Host("box")) == [f"box ssh-ed25519 {NEW}"]
    assert place.known.is_symlink()


def test_all_of_it_is_on_the_disk_before_it_takes_the_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    place.remember(Host("box"))
    assert synced == [place.known.stat().st_size]


def test_no_file_to_remember_in_is_told(place: Place) -> None:
    place.config.write_text(f"UserKnownHostsFile {os.devnull}\n", encoding="utf-8")
    with pytest.raises(ProvisionError) as caught:
        place.remember(Host("box"))
    assert "keeps no known hosts" in str(caught.value)

"""Which QEMU emulates: this machine's own, a newer one, and its own again where the newer cannot be had."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.errors import refuse
from provision.lab import emulator, roots


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    emulator._newer.cache_clear()
    yield tmp_path / "provision" / "lab"
    emulator._newer.cache_clear()


def own(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = f"QEMU emulator version {version} (Debian)\nCopyright\n"
    monkeypatch.setattr(emulator, "attempt", lambda _argv, timeout: (0, said, ""))  # noqa: ARG005


def unpacked(root: roots.Root, place: Path) -> None:
    assert (root.codename, root.packages) == ("trixie", ("qemu-system-x86",))
    library = place / "usr/lib/x86_64-linux-gnu" / "libc.so.6"
    library.parent.mkdir(parents=True)
    library.touch()


@pytest.mark.parametrize("version", ["10.0.13", "11.1.0"])
def test_a_quick_one_of_this_machine_is_taken(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own(version, monkeypatch)
    monkeypatch.setattr(roots, "unpack", lambda *_: pytest.fail("nothing had to be fetched"))
    assert emulator.program() == ["qemu-system-x86_64"]


def test_beside_a_slow_one_a_newer_is_unpacked_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own("7.2.22", monkeypatch)
    monkeypatch.setattr(roots, "unpack", unpacked)
    words = emulator.program()
    place = next((cache / "qemu").iterdir())
    libraries = str(place / "usr/lib/x86_64-linux-gnu")
    program = str(place / "usr/bin/qemu-system-x86_64")
    assert words[:4] == [str(place / emulator.LOADER), "--library-path", libraries, program]
    monkeypatch.setattr(roots, "unpack", lambda *_: pytest.fail("it is there already"))
    emulator._newer.cache_clear()
    assert emulator.program() == words


def test_where_the_newer_cannot_be_had_the_slow_one_does(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_root: roots.Root, place: Path) -> None:
        place.mkdir()
        raise refuse("mmdebstrap", "failed with exit code 100", "run: provision doctor")

    own("7.2.22", monkeypatch)
    monkeypatch.setattr(roots, "unpack", fails)
    assert emulator.program() == ["qemu-system-x86_64"]
    assert list((cache / "qemu").iterdir()) == []

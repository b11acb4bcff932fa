"""Stands in for the machines that the engine's unit tests have none of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

# Notes how it was called and answers from files. `-G` asks for the settings in force, `-O` is about a connection.
_SSH = r"""#!/bin/sh
here=${0%/*}
printf '%s\n' "$*" >>"$here/calls"
case " $* " in
*" -G "*) cat "$here/settings"; exit 0 ;;
*" -O "*) exit 0 ;;
esac
cat >"$here/stdin"
cat "$here/out"
cat "$here/err" >&2
exit "$(cat "$here/code")"
"""


class FakeSsh:
    """A program called ssh, first on PATH."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        program = folder / "ssh"
        program.write_text(_SSH, encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=":")
        self.answer()

    def answer(self, code: int = 0, out: str = "", err: str = "", settings: Mapping[str, str] | None = None) -> None:
        told = "".join(f"{name} {value}\n" for name, value in (settings or {}).items())
        for name, text in (("out", out), ("err", err), ("code", str(code)), ("settings", told)):
            (self.folder / name).write_text(text, encoding="utf-8")

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text(encoding="utf-8").splitlines()

    @property
    def stdin(self) -> str:
        return (self.folder / "stdin").read_text(encoding="utf-8")

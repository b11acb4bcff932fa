"""A shell on a host that stays open for many commands: each costs neither a login nor a sudo of its own.

An answer stands between marks that are drawn anew for each command, so nothing that is printed can end it early.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import selectors
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Said:
    """What a command came to. `ended`: the shell ended with it, and `code` is how."""

    code: int
    out: bytes
    err: bytes
    ended: bool = False


class Shell:
    """One process of ssh with a POSIX shell at its other end."""

    def __init__(self, argv: Sequence[str], password: str | None = None) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(list(argv), stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        self._password = f"{password}\n" if password is not None else ""

    def run(self, command: str, patience: float) -> Said:
        """Run one command, with nothing to read.

        Raises:
            subprocess.TimeoutExpired: after `patience` seconds. The shell is of no use any more.
        """
        begins, ends = secrets.token_hex(8), secrets.token_hex(8)
        begin = f"printf '{begins}\\n'; printf '{begins}\\n' >&2"
        end = f"printf '\\n{ends} %d\\n' $?; printf '\\n{ends}\\n' >&2"
        self._write(f"{self._password}{begin}; /bin/sh -c {shlex.quote(command)} < /dev/null; {end}\n")
        self._password = ""
        out_ends, err_ends = re.compile(rb"\n%b (\d+)\n" % ends.encode()), b"\n%b\n" % ends.encode()
        out, err = self._read(out_ends, err_ends, patience)
        ended = out_ends.search(out)
        begun = f"{begins}\n".encode()
        if ended is None:
            return Said(self._process.wait(timeout=patience), _after(begun, out), _after(begun, err), ended=True)
        return Said(int(ended[1]), _after(begun, out[: ended.start()]), _after(begun, err.partition(err_ends)[0]))

    def close(self) -> None:
        """End the shell. What it started in the background goes on."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream
            stream.close()
        self._process.wait()

    def _write(self, text: str) -> None:
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # what it said before it ended is read
            self._process.stdin.write(text.encode())

    def _read(self, out_ends: re.Pattern[bytes], err_ends: bytes, patience: float) -> tuple[bytes, bytes]:
        """Both streams up to their marks, or to their ends where there are none."""
        out, err = self._process.stdout, self._process.stderr
        assert out
        assert err
        found: dict[IO[bytes], bytes] = {out: b"", err: b""}
        ends: dict[IO[bytes], Callable[[bytes], bool]] = {
            out: lambda text: out_ends.search(text) is not None,
            err: lambda text: err_ends in text,
        }
        deadline = time.monotonic() + patience
        with selectors.DefaultSelector() as waiting:
            for stream in found:
                waiting.register(stream, selectors.EVENT_READ)
            while waiting.get_map():
                ready = waiting.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise subprocess.TimeoutExpired(self._process.args, patience)
                for key, _ in ready:
                    stream = out if key.fileobj is out else err
                    chunk = stream.read(_CHUNK)
                    found[stream] += chunk
                    if not chunk or ends[stream](found[stream]):
                        waiting.unregister(stream)
        return found[out], found[err]


def _after(mark: bytes, text: bytes) -> bytes:
    """What was said after a mark, all of it where it never came: before it speaks what an earlier command left."""
    before, found, after = text.partition(mark)
    return after if found else before

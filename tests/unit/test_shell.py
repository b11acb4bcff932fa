"""A shell that stays open, tried on this machine's own: each command gets its own answer, whole and unmixed."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from provision.engine.shell import Said, Shell


@pytest.fixture
def shell() -> Iterator[Shell]:
    with closing(Shell(["/bin/sh"])) as opened:
        yield opened


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("true", Said(0, b"", b"")),
        ("exit 3", Said(3, b"", b"")),
        ("printf out; printf err >&2", Said(0, b"out", b"err")),
        ("echo line; echo; echo", Said(0, b"line\n\n\n", b"")),
        (r"printf '\000\377'", Said(0, b"\0\xff", b"")),
        ('echo "it\'s\nquoted"; cat', Said(0, b"it's\nquoted\n", b"")),
        ("head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2", Said(0, bytes(300000), bytes(300000))),
    ],
)
def test_an_answer_is_what_the_command_printed(shell: Shell, command: str, said: Said) -> None:
    for _ in range(2):
        assert shell.run(command, 30) == said


def test_a_command_that_a_signal_ends_ends_alone(shell: Shell) -> None:
    assert shell.run("kill -KILL $$", 30).code == 128 + signal.SIGKILL
    assert shell.run("echo on", 30) == Said(0, b"on\n", b"")


def test_what_a_command_left_running_speaks_in_nobodys_answer(shell: Shell, tmp_path: Path) -> None:
    left = "(until [ -e go ]; do sleep 0.01; done; echo late; echo late >&2; touch gone) & echo now"
    assert shell.run(f"cd {tmp_path}; {left}", 30) == Said(0, b"now\n", b"")
    (tmp_path / "go").touch()
    for _ in range(1000):
        if (tmp_path / "gone").exists():
            break
        time.sleep(0.01)
    assert shell.run("echo mine", 30) == Said(0, b"mine\n", b"")


def test_a_command_cannot_end_its_own_answer_with_a_mark_of_another(shell: Shell) -> None:
    told = shell.run("tr '\\0' ' ' < /proc/$$/cmdline; echo; echo 0123456789abcdef 0", 30)
    assert told.out.endswith(b"\n0123456789abcdef 0\n")


def test_a_shell_that_ends_says_so_with_its_code_and_its_words() -> None:
    with closing(Shell(["/bin/sh", "-c", "echo refused >&2; exit 7"])) as opened:
        assert opened.run("true", 30) == Said(7, b"", b"refused\n", ended=True)


def test_a_command_that_does_not_end_is_given_up(shell: Shell) -> None:
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        shell.run("sleep 7263", 0.5)
    assert time.monotonic() - began < 20


def test_the_password_is_the_first_line_and_only_that() -> None:
    with closing(Shell(["/bin/sh", "-c", 'read -r given; test "$given" = secret && exec /bin/sh'], "secret")) as opened:
        assert opened.run("cat; echo one", 30).out == b"one\n"
        assert opened.run("cat; echo two", 30).out == b"two\n"

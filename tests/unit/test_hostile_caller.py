"""The tests say the same whoever calls them: what starts processes is run here as a hostile caller would run it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import surroundings

ROOT = Path(__file__).parents[2]
# One of each kind: the CLI as a program, pytest inside pytest, Ansible, signals, modes of files, programs on PATH.
FRAGILE = (
    "tests/unit/test_checks.py::test_ctrl_c_ends_pytest_and_is_passed_on",
    "tests/unit/test_checks.py::test_nothing_of_the_callers_surroundings_reaches_the_tests",
    "tests/unit/test_cli_answers.py::test_a_program_gets_its_document_from_every_call",
    "tests/unit/test_converge.py::test_ctrl_c_ends_ansible_and_all_below_it",
    "tests/unit/test_ledger.py",
    "tests/unit/test_ssh_workspace.py",
    "tests/unit/test_netcheck.py",
    "tests/test_style.py::test_shellcheck",
)


@pytest.fixture
def hostile(tmp_path: Path) -> dict[str, str]:
    """An environment in which nothing is as one is used to."""
    foreign = tmp_path / "bin" / "provision"
    foreign.parent.mkdir()
    foreign.write_text("#!/bin/sh\nexit 99\n", encoding="utf-8")
    foreign.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "PYTEST_CURRENT_TEST")}
    kept = {name: value for name, value in kept.items() if not name.startswith("PYTEST_XDIST_")}
    return {
        **kept,
        "PATH": f"{foreign.parent}:{os.environ['PATH']}",
        "PYTEST_ADDOPTS": "-v",
        "ANSIBLE_STDOUT_CALLBACK": "minimal",
        "LC_ALL": "C",
        "TERM": "dumb",
        "COLUMNS": "20",
        "TZ": "Asia/Kolkata",
        "GIT_DIR": str(tmp_path),
    }


def called(command: list[str], environment: dict[str, str]) -> str:
    """What a command says that is called with SIGINT ignored and a narrow umask."""

    def narrow() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.umask(0o077)

    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        preexec_fn=narrow, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def test_the_fragile_part_of_the_suite_passes_for_a_hostile_caller(hostile: dict[str, str]) -> None:
    pytest_alone = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "--timeout=120"]
    said = called([*pytest_alone, *FRAGILE], hostile)
    assert "PASSED" in said, "the caller's -v did not reach the outer pytest"
    assert re.search(r"^=+ \d+ passed in ", said.splitlines()[-1]), "something was skipped"


def test_the_tests_process_is_settled(hostile: dict[str, str]) -> None:
    code = (
        "import os, shutil, signal; from tests import surroundings; surroundings.settle()\n"
        "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, oct(os.umask(0)))\n"
        "print(shutil.which('provision'), *(os.environ.get(n) for n in ('LC_ALL', 'TERM', 'PYTEST_ADDOPTS', 'TZ')))\n"
        "print(os.environ['HOME'])\n"
    )
    signals, found, home = called([sys.executable, "-c", code], hostile).splitlines()
    assert signals == "True 0o22"
    assert found == f"{surroundings.BIN / 'provision'} C.UTF-8 xterm None None"
    assert home == str(Path("~root").expanduser() if os.getuid() == 0 else Path.home())


def test_what_the_tests_need_of_the_caller_stays() -> None:
    kept = ("PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST", "XDG_CACHE_HOME", "SSL_CERT_FILE", "https_proxy", "ENVOY")
    assert [name for name in kept if surroundings.is_foreign(name)] == []
    gone = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTHONPATH", "ANSIBLE_CONFIG", "LANGUAGE", "LC_TIME", "GIT_DIR")
    assert [name for name in gone if not surroundings.is_foreign(name)] == []
    assert surroundings.path("/opt/a:/bin::/opt/a").split(":")[:3] == [str(surroundings.BIN), "/opt/a", "/bin"]

"""The state that the tests' process starts in, whoever calls it: a job in the background, a cron line, a git hook."""

from __future__ import annotations

import os
import pwd
import signal
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OF_PYTEST_ITSELF = ("PYTEST_XDIST_", "PYTEST_VERSION", "PYTEST_CURRENT_TEST")
# What would change the programs that tests start: pytest, Python, Ansible, Molecule, the language, colours, the shell.
PREFIXES = ("PYTEST_", "PYTHON", "ANSIBLE_", "MOLECULE_", "LC_", "LANG", "CLICOLOR")
NAMES = (
    "BASH_ENV", "CDPATH", "COLUMNS", "ENV", "FORCE_COLOR", "LINES", "NO_COLOR", "POSIXLY_CORRECT", "TZ",
    "GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE",  # in a hook git means the repository that called it
)  # fmt: skip


def settle() -> None:
    """Put this process, and with it all that it starts, into the state that the tests count on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell does that to its background jobs
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.umask(0o022)
    for name in [name for name in os.environ if is_foreign(name)]:
        del os.environ[name]
    os.environ |= {"LC_ALL": "C.UTF-8", "TERM": "xterm", "PATH": path(os.environ.get("PATH", ""))}
    os.environ.setdefault("HOME", pwd.getpwuid(os.getuid()).pw_dir)


def is_foreign(name: str) -> bool:
    """Whether a variable of the caller would change what tests see."""
    return name in NAMES or (name.startswith(PREFIXES) and not name.startswith(OF_PYTEST_ITSELF))


def path(given: str) -> str:
    """PATH with this checkout's programs first; the system's alone stand behind them where the caller has none."""
    wanted = [str(BIN), *(place for place in (given or SYSTEM).split(os.pathsep) if place)]
    return os.pathsep.join(dict.fromkeys(wanted))

"""Run every test: those that need a target, and beside them, while targets boot, those that need none.

Words go to pytest, which then runs alone. A shell's background job would ignore Ctrl-C, and with it the tests of it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

PYTEST = [sys.executable, "-m", "pytest"]


def main(words: list[str]) -> int:
    if words:
        return subprocess.run([*PYTEST, *words], check=False).returncode
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen([*PYTEST, "-m", "not lab"], stdout=said, stderr=subprocess.STDOUT) as without_targets:
            with_targets = subprocess.run([*PYTEST, "-m", "lab"], check=False)
        said.seek(0)
        sys.stdout.buffer.write(said.read())
    return with_targets.returncode or without_targets.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

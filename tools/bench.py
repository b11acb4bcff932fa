"""How much `provision` costs on a no-op, against bare tuned ansible-playbook on the same roles and host.

Runs are interleaved, so that a machine whose speed drifts does not favour one side; medians and ratios are printed, and
nothing is judged here but the bounds that the README states: own overhead below 10 %, `--help` below 0.3 s, a plan of a
hardware file below 0.5 s.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
TARGET = "bench"
CARDS = ("--hardware", ROOT / "tests/cases/lspci/hgx-h100/lspci.txt", "--os", "ubuntu-22.04")
ROUNDS = int(os.environ.get("ROUNDS", "5"))

# What a careful administrator sets: pipelining, one connection kept open, no needless fact gathering.
TUNED = {
    "ANSIBLE_PIPELINING": "1",
    "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s",
    "ANSIBLE_GATHERING": "explicit",
    "ANSIBLE_HOST_KEY_CHECKING": "1",
    "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
}


def timed(command: Sequence[str | Path], environment: Mapping[str, str]) -> tuple[float, str]:
    """Wall seconds of a command that must succeed, and its standard output."""
    started = time.perf_counter()
    done = subprocess.run(
        [str(word) for word in command], env={**os.environ, **environment}, cwd=ROOT,
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        sys.exit(f"bench: {command} ended with {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return seconds, done.stdout


def overhead(document: str, wall: float) -> float:
    """The seconds of a run that were neither looking, acting nor proving: start-up, ledger, events, report."""
    phases: dict[str, float] = json.loads(document)["data"]["seconds"]
    return wall - sum(phases.values())


def row(name: str, seconds: Sequence[float]) -> None:
    spread = f"{min(seconds):6.2f} .. {max(seconds):.2f}"
    print(f"{name:<44} median {statistics.median(seconds):6.2f} s   ({spread})")


def main() -> None:
    provision = BIN / "provision"
    timed([provision, "lab", "up", TARGET], {})
    try:
        inventory = timed([provision, "lab", "inventory"], {})[1].strip()
        measure(provision, inventory)
    finally:
        timed([provision, "lab", "down", TARGET], {})


def measure(provision: Path, inventory: str) -> None:
    where = ["--tier", "budget", "-i", inventory, "--limit", TARGET, "--output", "json"]
    apply = [provision, "apply", "--accept-hardware", "--yes", *where]
    bare = [BIN / "ansible-playbook", "-i", inventory, "--limit", TARGET, "-e", "tier=budget",
            "-e", "provision_accept_hardware=true", ROOT / "playbooks" / "site.yml"]  # fmt: skip
    contenders: dict[str, Callable[[], tuple[float, str]]] = {
        "bare ansible-playbook site.yml": lambda: timed(bare, TUNED),
        "provision apply, no verify": lambda: timed([*apply, "--no-verify"], {}),
        "provision apply": lambda: timed(apply, {}),
        "provision verify": lambda: timed([provision, "verify", *where], {}),
        "provision --help": lambda: timed([provision, "--help"], {}),
        "provision plan --hardware": lambda: timed([provision, "plan", "--tier", "datacenter", *CARDS], {}),
    }
    print("bringing the target to its declared state ...", flush=True)
    timed(apply, {})
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    own: list[float] = []
    for turn in range(ROUNDS):
        for name, run in contenders.items():
            wall, document = run()
            seconds[name].append(wall)
            if name == "provision apply":
                own.append(overhead(document, wall) / wall)
        print(f"round {turn + 1} of {ROUNDS} done", flush=True)
    for name, values in seconds.items():
        row(name, values)
    base = seconds["bare ansible-playbook site.yml"]
    for name in ("provision apply, no verify", "provision apply", "provision verify"):
        ratios = [ours / theirs for ours, theirs in zip(seconds[name], base, strict=True)]
        print(f"{name + ' / bare ansible-playbook':<44} ratio  {statistics.median(ratios):6.2f}")
    print(f"{'own overhead of provision apply':<44} {statistics.median(own):8.1%} of the run (bound: 10 %)")
    for name, bound in (("provision --help", 0.3), ("provision plan --hardware", 0.5)):
        print(f"{name:<44} {statistics.median(seconds[name]):8.2f} s (bound: {bound} s)")


if __name__ == "__main__":
    main()

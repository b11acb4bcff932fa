"""The parts of role nvidia_driver, imported as Ansible imports them, and a host that exists only in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from provision.content import load, roles_dir

ROLE = roles_dir() / "nvidia_driver"
apt, host, moves, names, plan, state = (
    load(ROLE / "module_utils" / f"nvidia_driver_{part}.py")
    for part in ("apt", "host", "moves", "names", "plan", "state")
)

__all__ = ["ROLE", "Box", "Ended", "apt", "host", "library", "moves", "names", "plan", "state"]
RELEASE = os.uname().release


def library(name: str) -> ModuleType:
    """A module of the role."""
    return load(ROLE / "library" / f"{name}.py")


class Ended(Exception):
    """How a module ended: `failed` with a message, or with its result."""

    def __init__(self, failed: bool, result: dict[str, Any]) -> None:
        super().__init__(result.get("msg"))
        self.failed, self.result = failed, result


class Box:
    """A host in a folder. `answers` are commands by their first words, `asked` is what was run."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.asked, self.check_mode = root, list[str](), False
        self.params: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.answers: dict[str, tuple[int, str, str] | Callable[[list[str]], tuple[int, str, str]]] = {
            "systemd-detect-virt": (1, "none\n", ""),
            "dpkg --print-architecture": (0, "amd64\n", ""),
            "dpkg --compare-versions": lambda words: (0 if words[2] > words[4] else 1, "", ""),
            "modinfo": lambda words: (0, Path(words[-1]).read_text(), ""),
        }
        patch.setattr(host, "SYS", str(root / "sys"))
        patch.setattr(host, "MODULES", str(root / "modules"))
        patch.setattr(host, "LIBRARY_FOLDERS", (str(root / "lib"),))
        patch.setattr(state, "ROOT", str(root / "state"))
        patch.setattr(state, "PREFERENCES", str(root / "preferences"))
        patch.setattr(state, "BLACKLIST", str(root / "blacklist"))
        patch.setattr(state, "boot_id", (root / "boot_id").read_text)
        self.boot("first")

    def boot(self, identity: str) -> None:
        (self.root / "boot_id").write_text(identity)

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def has(self, *, loaded: str = "", library: str = "", built: str = "", card: bool = True) -> None:
        """What the kernel has loaded, which library is installed, which module lies on disk for the running kernel."""
        if loaded:
            self.write("sys/module/nvidia/version", loaded + "\n")
        if library:
            file = self.write(f"lib/libnvidia-ml.so.{library}", "")
            file.with_name("libnvidia-ml.so.1").symlink_to(file.name)
        if built:
            self.write(f"modules/{RELEASE}/updates/dkms/nvidia.ko", built + "\n")
        if card:
            self.write("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
            self.write("sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n")

    def installed(self, packages: dict[str, str], held: bool = True) -> None:
        """The packages dpkg knows."""
        want = "hold" if held else "install"
        rows = "".join(f"{name}\tamd64\t{want}\tinstalled\t{version}\n" for name, version in packages.items())
        self.answers["dpkg-query --show --showformat ${Package}\t${Architecture}"] = (0, rows, "")

    def journal(self) -> dict[str, Any]:
        document = json.loads((self.root / "state" / "journal.json").read_text())
        assert isinstance(document, dict)
        return document

    # -- what a module calls ------------------------------------------------------------------------------------

    def run_command(self, words: list[str], **_: Any) -> tuple[int, str, str]:
        line = " ".join(words)
        self.asked.append(line)
        for start in sorted(self.answers, key=len, reverse=True):
            if line.startswith(start):
                answer = self.answers[start]
                return answer(words) if callable(answer) else answer
        return 0, "", ""

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def fail_json(self, **result: Any) -> None:
        raise Ended(True, result)

    def exit_json(self, **result: Any) -> None:
        raise Ended(False, result)

    def ran(self, start: str) -> list[str]:
        return [line for line in self.asked if line.startswith(start)]


def closure(version: str, **packages: str) -> dict[str, Any]:
    """A closure as the role writes it down."""
    found = {name.replace("_", "-"): value for name, value in packages.items()}
    wish = {"source": "ubuntu", "branch": version.split(".", maxsplit=1)[0], "version": "", "modules": "open"}
    return {
        "id": names.closure_id(version, found), "wish": wish, "version": version, "kernels": [RELEASE],
        "packages": found, "origins": {}, "kept": {},
    }  # fmt: skip

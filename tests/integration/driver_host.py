"""Hosts that take their NVIDIA stack from stand-in archives: for one role, for the driver, and a whole box."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from provision.solver import GPU_ROLES
from tests.integration.conftest import Answer, Outcome, Target
from tests.standins.nvidia_archives import Archives

UBUNTU_SOURCE = "/etc/apt/sources.list.d/ubuntu.sources"
STATE = "/var/lib/provision/nvidia_driver"
ASIDE = "/root/debian"
FORGET = "rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin"
# Everything that the driver consists of, whoever made it, and the kernel that it is for.
FAMILY = (
    "dpkg-query -W -f '${db:Status-Abbrev}${Package} ${Version}\\n' '*nvidia*' 'linux-*' 'libcuda*' 'cuda-drivers*'"
)


@dataclass(frozen=True)
class Ground:
    """A target and the archives that it sees."""

    target: Target
    archives: Archives

    @property
    def address(self) -> str:
        return self.target.host.address

    def settings(self) -> dict[str, str]:
        return self.archives.settings(self.address, self.target.host.controller)

    def sh(self, script: str, *, check: bool = True) -> str:
        return self.target.sh(script, check=check)

    def without_debian(self) -> None:
        """Leave the stand-ins as its only archives: apt reads Debian's tens of thousands of packages each time it is
        started, which takes a second, and ten in an emulated machine.
        """
        self.sh(f"mkdir {ASIDE}; cd /etc/apt; mv sources.list sources.list.d {ASIDE}; mkdir sources.list.d; {FORGET}")

    @contextmanager
    def debian(self) -> Iterator[None]:
        """Debian's archive is there again for a while."""
        self.sh(f"cp -R {ASIDE}/. /etc/apt/; apt-get -q update")
        try:
            yield
        finally:
            self.sh(f"cd {ASIDE}; find . -type f | (cd /etc/apt; xargs rm -f); {FORGET}; apt-get -q update")

    def play_roles(self, roles: Sequence[str], settings: Mapping[str, Any], *words: str) -> Outcome:
        """Run roles against the archives."""
        return self.target.play(roles, {**self.settings(), **settings}, *words)


@dataclass(frozen=True)
class DriverHost(Ground):
    """A target whose driver comes from the archives."""

    def prepare(self) -> None:
        """What a Ubuntu server has from the start: its own archive in apt's sources, and a kernel."""
        source = self.archives.ubuntu_source(self.address)
        self.sh(f"cat > {UBUNTU_SOURCE} <<'END'\n{source}END\n")
        self.sh("apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install linux-generic")

    def play(self, *words: str, roles: tuple[str, ...] = ("nvidia_driver",), **settings: Any) -> Outcome:
        """Run roles with the stand-ins' settings; without others the driver is 580, open, from Ubuntu's archive."""
        given = {
            "nvidia_driver_source": "ubuntu", "nvidia_driver_branch": "580", "nvidia_driver_modules": "open",
            **settings,
        }  # fmt: skip
        return self.play_roles(roles, given, *words)

    def packages(self) -> dict[str, str]:
        """Installed packages of the driver and the kernel, by name."""
        rows = self.sh(f"{FAMILY} 2>/dev/null || :").splitlines()
        return dict(row[3:].split(" ") for row in rows if row.startswith(("ii ", "hi ")))

    def driver(self) -> set[str]:
        """The upstream versions of the parts that must agree: more than one would be a broken driver."""
        parts = ("libnvidia-compute", "libcuda1", "nvidia-kernel", "nvidia-compute-utils", "nvidia-dkms")
        found = self.packages().items()
        return {version.split("-")[0] for name, version in found if name.startswith(parts)}

    def journal(self) -> dict[str, Any]:
        document = json.loads(self.sh(f"cat {STATE}/journal.json"))
        assert isinstance(document, dict)
        return document


@dataclass(frozen=True)
class GpuBox:
    """A host that went from bare to the whole stack by the command line; its one card is assumed."""

    host: DriverHost
    tier: Path
    foretold: Answer
    applied: Answer

    @classmethod
    def bare_to_applied(cls, target: Target, archives: Archives, tier: Path) -> GpuBox:
        host = DriverHost(target, archives)
        host.prepare()
        # Docker's own repository is another test's; PyPI's GPU wheels are some 3 GB.
        settings = {
            **host.settings(),
            "nvidia_driver_source": "ubuntu",
            "docker_source": "distribution",
        }
        tier.write_text(yaml.safe_dump({"extends": "workstation", "settings": settings}), encoding="utf-8")
        words = _words((*GPU_ROLES, "docker"))
        return cls(host, tier, target.apply("--check", *words, tier=tier), target.apply(*words, tier=tier))

    @property
    def name(self) -> str:
        return self.host.target.name

    @property
    def unproved(self) -> set[tuple[str, str]]:
        """The checks that need the card itself, as (role, check)."""
        checks = self.applied.host(self.name)["checks"]
        return {(check["role"], check["check"]) for check in checks if check["state"] == "skipped"}

    def apply(self, *words: str) -> Answer:
        return self.host.target.apply(*_words((*GPU_ROLES, "docker")), *words, tier=self.tier)

    def verify(self, *roles: str) -> Answer:
        return self.host.target.verify(*_words(roles), tier=self.tier)


def _words(roles: tuple[str, ...]) -> list[str]:
    return ["--assume-gpu", "RTX 3080", *(word for role in roles for word in ("--only", role))]

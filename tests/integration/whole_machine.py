"""One virtual machine on its way through all roles that need a kernel of its own: foretold, applied, booted, proved.

Each role has a file of drills that begin where this way ends. What the machine lacks is lent to it: a fan chip, a card
below a bridge, a power supply that forgets, a second network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.integration.conftest import Answer, Target
from tests.integration.power_host import DOCUMENT, UNIT, PowerHost

ROLES = ("cooling", "kernel_tuning", "network")

CHIP = "/usr/local/lib/fan_chip.py"
CHIP_SOURCE = Path(__file__).parents[1] / "standins" / "fan_chip.py"
INTERVAL_S = 2
OPEN = [{"port": "8000", "protocol": "tcp", "from": []}]
SETTINGS: Mapping[str, Any] = {
    "cooling_interval_s": INTERVAL_S, "cooling_hold_s": 4,
    "kernel_tuning_hugepages_2m": 8, "kernel_tuning_pcie_aspm": "performance", "kernel_tuning_acs": "direct",
    "kernel_tuning_boot_parameters": ["iommu=pt"],
    "network_profile": "10gbe", "network_interface": "enp0s3", "network_firewall": True, "network_firewall_open": OPEN,
    "network_mtu": 1400, "network_mtu_peers": ["10.0.3.2"],
}  # fmt: skip

# The NVMe disk lies below a bridge of its own, whose ACS is real. At every boot it is made to look like an NVIDIA card,
# and the bridge to redirect, as a firmware may leave it.
CARD = r"""#!/bin/sh
set -e
mkdir -p /run/standin
echo 0x10de > /run/standin/vendor
echo 0x030000 > /run/standin/class
device=$(readlink -f /sys/bus/pci/devices/0000:01:00.0)
for name in vendor class; do mount --bind /run/standin/$name "$device/$name"; done
printf '\035\000' | dd of="${device%/*}/config" bs=1 seek=$((0x14e)) conv=notrunc status=none
"""
# A card forgets its limits when it loses power.
FORGET = f"#!/bin/sh\nnvidia-smi --boot && cp {DOCUMENT} /run/forgotten.xml && touch /dev/nvidiactl\n"
ADMIN = "/etc/default/grub.d/50-admin.cfg"
# The administrator has a boot parameter, a second network and irqbalance.
ADMINISTRATOR = f"""
echo 'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT nowatchdog"' > {ADMIN}
printf '[Match]\\nName=enp0s3\\n[Network]\\nAddress=10.0.3.15/24\\n' > /etc/systemd/network/20-spare.network
networkctl reload
command -v irqbalance > /dev/null || {{ apt-get -q update; apt-get install -qy irqbalance; }} > /dev/null 2>&1
"""
# A change of an address that nobody proves.
UNPROVED = r"""
python3 - <<'END'
import importlib.machinery, importlib.util
path = "/usr/local/lib/provision/network-guard"
loader = importlib.machinery.SourceFileLoader("guard", path)
guard = importlib.util.module_from_spec(importlib.util.spec_from_loader("guard", loader))
loader.exec_module(guard)
file = "/etc/systemd/network/05-provision-enp0s2.network"
text = "[Match]\nName=enp0s2\n[Network]\nAddress=10.0.2.99/32\n"
change = {"what": "a lost address", "files": {file: text}, "modes": {file: "0644"}, "links": {"enp0s2": 1500},
          "made": [], "renderer": "networkd"}
guard.arm(change, 600)
guard.write_new(change)
END
"""

KERNEL = r"""
cat /proc/sys/vm/swappiness /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
grep -o '\[.*\]' /sys/kernel/mm/transparent_hugepage/enabled /sys/module/pcie_aspm/parameters/policy | cut -d: -f2
od -An -tx1 -j 334 -N 1 /sys/bus/pci/devices/0000:00:04.0/config
"""
GRUB = "sha256sum /etc/default/grub /etc/default/grub.d/* /boot/grub/grub.cfg"
LINKS = "ip -br -4 address; cat /sys/class/net/enp0s[23]/mtu; find /etc/systemd/network -type f | sort"
CHIP_NUMBER = "grep -l adt7475 /sys/class/hwmon/*/name"


class WholeMachine:
    """The machine and what was told on its way. Whoever asks for a later station has it pass all earlier ones first."""

    def __init__(self, target: Target, tier: Path) -> None:
        self.target = target
        self.tier = tier
        self._taken_away = False
        tier.write_text(yaml.safe_dump({"extends": "workstation", "settings": dict(SETTINGS)}), encoding="utf-8")
        target.put(CHIP, CHIP_SOURCE.read_text(encoding="utf-8"))
        # The chip is there before the service, as a board's is.
        target.at_boot("fan-chip", f"#!/bin/sh\nexec python3 {CHIP} plug\n", before="provision-cooling.service")
        target.at_boot("standin-card", CARD, before="provision-kernel-tuning.service")
        target.sh(f"systemctl start standin-card; python3 {CHIP} plug first; {ADMINISTRATOR}")

    @property
    def name(self) -> str:
        return self.target.name

    def sh(self, script: str, *, check: bool = True) -> str:
        return self.target.sh(script, check=check)

    def apply(self, *words: str, roles: Sequence[str] = ROLES) -> Answer:
        return self.target.apply(*_only(roles), *words, tier=self.tier)

    def verify(self, roles: Sequence[str] = ROLES) -> Answer:
        return self.target.verify(*_only(roles), tier=self.tier)

    def chip(self, *words: str) -> Any:
        return json.loads(self.sh(f"python3 {CHIP} {' '.join(words)}") or "null")

    def kernel(self) -> list[str]:
        """Swappiness, huge pages, transparent ones, ASPM, and the ACS control of the bridge above the card."""
        return self.sh(KERNEL).split()

    def links(self) -> str:
        return self.sh(LINKS)

    @cached_property
    def bare(self) -> tuple[str, list[str]]:
        """GRUB's files by digest, and the kernel, before anything was done."""
        return self.sh(GRUB), self.kernel()

    @cached_property
    def foretold(self) -> Answer:
        """What check mode says of the bare machine."""
        assert self.bare
        return self.apply("--check", "--diff")

    @cached_property
    def after_check(self) -> tuple[str, list[str]]:
        """`bare`, looked at again after check mode."""
        assert self.foretold
        return self.sh(GRUB), self.kernel()

    @cached_property
    def applied(self) -> Answer:
        """The apply that brings everything; what it was started with is still another kernel's command line."""
        assert self.after_check
        return self.apply("--no-verify")

    @cached_property
    def drill(self) -> dict[str, Any]:
        """What the fans did while their chip was heated and all about them failed; the boot then finds them anew."""
        assert self.applied.code == 0, self.applied.why
        told: dict[str, Any] = self.chip("drill")
        return told

    @cached_property
    def before_boot(self) -> dict[str, str]:
        """What a reboot has to bring back, or must not; the power caps of gpu_power ride along."""
        assert self.drill
        found = {"kernel": " ".join(self.kernel()), "links": self.links(), "chip": self.sh(CHIP_NUMBER)}
        power = self.power
        power.holds("rtx-2080-twice")
        done = power.play(gpu_power_limit_watts=200)
        assert done.code == 0, done.output
        self.target.at_boot("standin-power", FORGET, before=UNIT)
        self.sh(UNPROVED)
        return found

    @property
    def power(self) -> PowerHost:
        return PowerHost(self.target)

    @cached_property
    def rebooted(self) -> dict[str, str]:
        """What is there after the one real reboot; `state` is systemd's word for it."""
        assert self.before_boot
        state = self.target.reboot()
        outcome = self.sh("cat /var/lib/provision/network/guard/outcome.json")
        found = {"kernel": " ".join(self.kernel()), "links": self.links(), "chip": self.sh(CHIP_NUMBER)}
        return {**found, "state": state, "guard": outcome}

    @cached_property
    def repeated(self) -> Answer:
        """The second apply, with its proof, right after the reboot."""
        assert self.rebooted
        return self.apply()

    @property
    def declared(self) -> Target:
        """The machine as declared; what a drill took away is applied again."""
        assert self.repeated.code == 0, self.repeated.why
        if self._taken_away:
            again = self.apply("--no-verify")
            assert again.code == 0, again.why
            self._taken_away = False
        return self.target

    def take_away(self, *words: str, roles: Sequence[str]) -> Answer:
        """Apply roles with settings that give back what they did."""
        self._taken_away = True
        return self.apply(*words, roles=roles)


def _only(roles: Sequence[str]) -> list[str]:
    return [word for role in roles for word in ("--only", role)]

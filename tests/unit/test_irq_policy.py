"""irqbalance keeps off the tuned cards' interrupts, and off no others."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from provision.content import roles_dir

SCRIPT = (roles_dir() / "network" / "files" / "irq-policy").read_text(encoding="utf-8")
DECLARED = '{\n    "cards": [\n        "enp1s0",\n        "eth1"\n    ],\n    "country": ""\n}\n'


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A card below a bridge, a virtio card, one that is not tuned, and the script with its paths in this folder."""
    bridge = tmp_path / "sys/devices/pci0000:00/0000:00:01.0"
    places = {
        "enp1s0": bridge / "0000:01:00.0",
        "eth1": tmp_path / "sys/devices/pci0000:00/0000:00:03.0/virtio0",
        "eth2": tmp_path / "sys/devices/pci0000:00/0000:00:04.0",
    }
    for card, place in places.items():
        place.mkdir(parents=True)
        (tmp_path / "sys/class/net" / card).mkdir(parents=True)
        (tmp_path / "sys/class/net" / card / "device").symlink_to(place)
    for place in (bridge, places["enp1s0"], places["eth1"].parent, places["eth2"]):
        (place / "msi_irqs").mkdir()
    (tmp_path / "network.json").write_text(DECLARED)
    text = SCRIPT.replace("/etc/provision/network.json", f"{tmp_path}/network.json")
    (tmp_path / "policy").write_text(text.replace("/sys/class/net", f"{tmp_path}/sys/class/net"))
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "banned"),
    [
        ("sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0", True),
        ("sys/devices/pci0000:00/0000:00:03.0", True),
        ("sys/devices/pci0000:00/0000:00:04.0", False),
        ("sys/devices/pci0000:00/0000:00:01.0", False),
        ("sys", False),
        ("", False),
    ],
)
def test_only_the_tuned_cards_interrupts_are_kept(box: Path, asked: str, banned: bool) -> None:
    done = subprocess.run(
        ["sh", str(box / "policy"), str(box / asked) if asked else "", "42"], capture_output=True, text=True, check=True
    )
    assert done.stdout == ("ban=true\n" if banned else "")

"""Boxes for the tests of the solver: a machine with the cards of these names, on a distribution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from provision.catalog import Catalog, load_catalog, load_tier
from provision.model import Cpu, Firmware, Gpu, Hardware, HostPlan, OperatingSystem
from provision.resolve import Choice, resolve
from provision.settings import parse_set
from provision.solver import product_named

CATALOG: Catalog = load_catalog()
DISTRIBUTIONS = tuple(f"{known.id}-{known.version}" for known in CATALOG.distributions)


def system(distribution: str) -> OperatingSystem:
    known = next(known for known in CATALOG.distributions if f"{known.id}-{known.version}" == distribution)
    return OperatingSystem(known.id, known.version, known.codename, "x86_64")


def hardware(distribution: str, names: Iterable[str], **extra: Any) -> Hardware:
    """`names` are products, or PCI ids that the catalogue need not know; one that ends in `*` is a vGPU."""
    gpus = []
    for index, name in enumerate(names):
        plain = name.rstrip("* ")
        pci_id = plain if ":" in plain else product_named(plain, CATALOG.nvidia).pci_id
        gpus.append(Gpu(pci_id, f"0000:{index + 1:02x}:00.0", f"NVIDIA [{plain}]", virtual=name.endswith("*")))
    return Hardware(
        os=system(distribution),
        cpu=Cpu("Intel Xeon Gold", 1, 8, 16),
        memory_bytes=64 * 2**30,
        gpus=tuple(gpus),
        nvswitches=tuple(extra.get("nvswitches", ())),
        firmware=Firmware(
            secure_boot=extra.get("secure_boot"), virtualization=str(extra.get("virtualization", "metal"))
        ),
    )


NO_CHOICE = Choice()


def planned(box: Hardware, sets: Sequence[str] = (), tier: str = "datacenter", choice: Choice = NO_CHOICE) -> HostPlan:
    layers = [("--set", parse_set(sets, CATALOG.settings))]
    return resolve("box", box, load_tier(tier), layers, CATALOG, choice)


def said(plan: HostPlan) -> list[str]:
    """Driver, flavour, source, prebuilt, toolkits, torch, TensorFlow and Python of a plan, a word each."""
    found = plan.driver
    frameworks = plan.frameworks
    return [
        found.branch if found and found.branch else "-",
        found.modules if found and found.modules else "-",
        found.source if found else "-",
        ("signed" if found.prebuilt else "DKMS") if found and found.branch else "-",
        ", ".join(plan.cuda) or "-",
        frameworks.torch_backend,
        frameworks.tensorflow_backend,
        frameworks.python,
    ]

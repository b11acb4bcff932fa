"""Is the shipped catalogue sound, and what of it is old? `bad` findings break planning, `limited` ones do not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

from provision import comparison, content
from provision.catalog import FRAMEWORKS, Catalog, load_catalog, tiers
from provision.catalog.nvidia import Branch, Product
from provision.catalog.nvidia_loader import PCI_TABLE, read
from provision.catalog.soundness import unsound
from provision.model import Card
from provision.report import Report
from provision.solver.frameworks import runs_on

SOON = timedelta(days=180)  # what ends within it is told, and pci.ids is called old after it

Finding = dict[str, str]


def check(today: date | None = None) -> Report:
    """Read every file of the catalogue; where one is unsound nothing else is judged."""
    faults = [_finding(str(said.subject), "bad", said.fact, said.hint) for said in unsound()]
    findings = faults or [*_findings(load_catalog(), today or date.today())]
    return Report("catalog check", data={"findings": findings}, ok=all(said["state"] != "bad" for said in findings))


def ends_on(branch: Branch) -> date | None:
    """The last day of the month in which a branch ends."""
    if branch.ends is None:
        return None
    year, month = map(int, branch.ends.split("-"))
    return date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)


def _finding(name: str, state: str, fact: str, remedy: str = "") -> Finding:
    return {"name": name, "state": state, "fact": fact, "remedy": remedy}


def _findings(catalog: Catalog, today: date) -> Iterator[Finding]:
    """The faults of each kind, or that there are none."""
    nvidia = catalog.nvidia
    counted = f"{len(nvidia.products)} GPUs, {len(nvidia.branches)} driver branches, {len(nvidia.cuda)} CUDA releases"
    yield _finding("files", "good", counted)
    kinds: tuple[tuple[str, str, Iterator[Finding]], ...] = (
        ("pci.ids", f"of {_pci_ids_date() or 'an unknown day'}", _pci_ids(today)),
        ("driver branches", "none ends soon", _ends(nvidia.branches, today)),
        ("cards", "all that the tiers document are known, with figures", _cards(catalog)),
        ("torch", "a locked build for every card that some driver drives", _torch(catalog)),
        ("distributions", "a long-term branch for each", _distributions(catalog)),
        ("locks", "one for every build", _locks(catalog)),
        ("sources", "every entry has one", _sources()),
    )
    for name, clean, found in kinds:
        yield from [*found] or [_finding(name, "good", clean)]


def _pci_ids_date() -> date | None:
    text = (content.catalog_dir() / PCI_TABLE).read_text(encoding="utf-8")
    told = re.search(r"pci\.ids (\d{4}-\d{2}-\d{2})", text)
    return date.fromisoformat(told[1]) if told else None


def _pci_ids(today: date) -> Iterator[Finding]:
    written = _pci_ids_date()
    if written is None or today - written > SOON:
        fact = f"of {written}: newer cards are unknown" if written else "its day is not told"
        yield _finding("pci.ids", "limited", fact, "python tools/catalog_gpus.py PCI_IDS")


def _ends(branches: Sequence[Branch], today: date) -> Iterator[Finding]:
    remedy = "look for its successor in NVIDIA's table of drivers; name it in drivers.yml"
    for branch in branches:
        name, ends = f"driver {branch.number}", ends_on(branch)
        if branch.status == "ended":
            yield _finding(name, "limited", f"ended {branch.ends}; planned only where somebody asks for it")
        elif ends is None:
            yield _finding(name, "limited", f"a {branch.status} branch whose end is not known")
        elif ends < today:
            yield _finding(name, "limited", f"a {branch.status} branch that ended {branch.ends}", remedy)
        elif ends - today <= SOON:
            left = (ends - today).days
            yield _finding(name, "limited", f"a {branch.status} branch that ends {branch.ends}, in {left} days", remedy)


def _cards(catalog: Catalog) -> Iterator[Finding]:
    """The cards that the tiers document: known at all, and with the figures that the proofs compare with."""
    products = catalog.nvidia.products.values()
    models = {model: tier.name for tier in tiers() for model in tier.hardware["gpus"]["models"]}
    for model, tier in models.items():
        named = [product for product in products if comparison.is_model(product.name, model)]
        if not named:
            fact = f"the tier {tier} documents it, and pci.ids has no product of that name"
            yield _finding(model, "bad", fact, "call it in the tier as pci.ids does")
        elif not any(_complete(product) for product in named):
            yield _finding(model, "limited", f"the tier {tier} documents it; it has no figures", "add them to gpus.yml")


def _complete(product: Product) -> bool:
    figures = (product.memory_gib, product.passive, product.power_watts, product.bandwidth_gbs, product.fp16_tflops)
    return all(figure is not None for figure in figures)


def _torch(catalog: Catalog) -> Iterator[Finding]:
    """Every compute capability that some driver drives needs a build of torch."""
    driven = {name for branch in catalog.nvidia.branches for name in branch.architectures}
    kinds = {
        product.compute_capability: product
        for product in catalog.nvidia.products.values()
        if product.architecture.name in driven
    }
    for capability, product in kinds.items():
        if not any(build.locked and runs_on(build.capabilities, _card(product)) for build in catalog.torch):
            name = f"{product.architecture.name} {capability}"
            yield _finding(
                name, "bad", "no locked build of torch has code for it", "lock one; name it in frameworks.yml"
            )


def _card(product: Product) -> Card:
    return Card("", product.pci_id, product.name, product.architecture.name, product.compute_capability)


def _distributions(catalog: Catalog) -> Iterator[Finding]:
    for known in catalog.distributions:
        name = f"{known.id}-{known.version}"
        offered = [
            branch for branch in catalog.nvidia.branches if name in {origin.distribution for origin in branch.origins}
        ]
        numbers = ", ".join(str(branch.number) for branch in offered)
        if not offered:
            yield _finding(name, "bad", "nobody offers a driver for it", "add an origin to drivers.yml")
        elif all(branch.status == "ended" for branch in offered):
            yield _finding(name, "limited", f"only drivers that ended: {numbers}", "install a newer distribution")
        elif all(branch.status != "long-term" for branch in offered):
            yield _finding(name, "limited", f"no long-term driver, only {numbers}", "install another distribution")


def _locks(catalog: Catalog) -> Iterator[Finding]:
    folder = content.roles_dir() / "python_ml" / "files" / "locks"
    for framework in FRAMEWORKS:
        for build in getattr(catalog, framework):
            lock = folder / f"{framework}-{build.backend}.txt"
            if build.locked and not lock.is_file():
                fact = f"{build.version} has no lock {lock.name}"
                yield _finding(f"{framework} {build.backend}", "bad", fact, "lock it, or say locked: false")


def _sources() -> Iterator[Finding]:
    """What stands in the files without anybody having seen it."""
    drivers, cuda, frameworks = (read(f"{name}.yml") for name in ("drivers", "cuda", "frameworks"))
    entries: dict[str, list[Any]] = {
        "drivers.yml": [*drivers["branches"], *(origin for one in drivers["branches"] for origin in one["origins"])],
        "cuda.yml": cuda["releases"],
        "frameworks.yml": [build for framework in FRAMEWORKS for build in frameworks[framework]],
    }
    for name, found in entries.items():
        texts = [entry.get("seen") or entry["source"] for entry in found]
        count = sum("unverified" in text for text in texts)
        if count:
            yield _finding(name, "limited", f"{count} of {len(texts)} sources are unverified", "look them up")

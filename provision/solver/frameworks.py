"""Which builds of torch and TensorFlow run on the cards of a box, and with which Python. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from provision import comparison
from provision.catalog import Build, Catalog
from provision.catalog.nvidia import Branch, parts
from provision.comparison import either
from provision.contradictions import Contradiction
from provision.model import Card
from provision.solver.box import Box, Decision, say

BACKENDS = {"torch": "python_ml_torch_backend", "tensorflow": "python_ml_tensorflow_backend"}
PYTHON = "python_ml_python"
_ENVIRONMENTS = "python_ml_environments"


def decisions(box: Box, branch: Branch | None, catalog: Catalog) -> dict[str, Decision]:
    """Backends and interpreter. Without a driver's branch everything computes on the CPU."""
    found = {setting: _backend(name, box, branch, catalog) for name, setting in BACKENDS.items()}
    python, because = _python(box, _used(box, found, catalog), catalog)
    found[PYTHON] = Decision(python, because, "hardware")
    found["model_cache_python"] = Decision(python, "as the environments", "hardware")
    return found


def faults(box: Box, branch: Branch | None, catalog: Catalog) -> Iterator[Contradiction]:
    """Pins that no build, card or interpreter goes with, and cards that no build of torch runs on."""
    for framework, setting in BACKENDS.items():
        if framework in _wanted(box):
            yield from _backend_faults(framework, setting, box, branch, catalog)
    for name in sorted(_wanted(box)):
        if not name.startswith("/") and not builds(catalog, name):
            locked = either([*_locked(catalog), "the absolute path of a lock of your own"])
            yield _ENVIRONMENTS, f"wants {name}, for which there is no lock", f"use {locked}"
    decided = decisions(box, branch, catalog)
    python = str(box.pins.get(PYTHON) or decided[PYTHON].value)
    version = comparison.system_python(box.hardware.os, catalog) if python == "system" else python
    for framework, build in _used(box, decided, catalog).items():
        if version not in build.pythons:
            what = f"is system, and the system's Python is {version}" if python == "system" else f"is {version}"
            fact = f"{what}; the lock of {framework} {build.version} covers {', '.join(build.pythons)}"
            yield PYTHON, fact, f"use {catalog.managed_python}"


def builds(catalog: Catalog, framework: str) -> tuple[Build, ...]:
    """The locked builds of a framework, none where there is no lock of that name."""
    return _locked(catalog).get(framework, ())


def runs_on(capabilities: Sequence[str], card: Card) -> bool:
    """Whether code for these capabilities runs on a card: that of its own major one, of its minor one or a lesser."""
    major, minor = parts(card.compute_capability)
    return any(parts(built)[0] == major and parts(built)[1] <= minor for built in capabilities)


def _locked(catalog: Catalog) -> dict[str, tuple[Build, ...]]:
    every = {"torch": catalog.torch, "tensorflow": catalog.tensorflow, "openvino": catalog.openvino}
    return {name: tuple(build for build in known if build.locked) for name, known in every.items()}


def _wanted(box: Box) -> set[str]:
    """The frameworks that the environments are made of."""
    environments = box.setting(_ENVIRONMENTS)
    return {environment["requirements"] for environment in environments}


def _used(box: Box, decided: Mapping[str, Decision], catalog: Catalog) -> dict[str, Build]:
    """The builds that the environments install, as pinned or decided; torch's also where they want none of ours."""
    used = {}
    for framework in sorted({"torch", *_wanted(box)}):
        setting = BACKENDS.get(framework, "")
        backend = box.pins.get(setting) or (decided[setting].value if setting else "cpu")
        found = next((build for build in builds(catalog, framework) if build.backend == backend), None)
        if found:
            used[framework] = found
    return used


def _python(box: Box, used: Mapping[str, Build], catalog: Catalog) -> tuple[str, str]:
    version = comparison.system_python(box.hardware.os, catalog)
    locks = " and ".join(f"{framework} {build.version}" for framework, build in used.items())
    if all(version in build.pythons for build in used.values()):
        return "system", f"the system's Python {version} is one that is locked for {locks}"
    return catalog.managed_python, f"the system's Python is {version}, which is not locked for {locks}"


def _backend(framework: str, box: Box, branch: Branch | None, catalog: Catalog) -> Decision:
    """The newest GPU build that runs on every card with this driver, else the CPU's."""
    if branch is None:
        return Decision("cpu", f"{box.why_none}, so {framework} computes on the CPU", "hardware")
    rejected = []
    found = None
    gpu = [build for build in builds(catalog, framework) if build.gpu]
    for build in sorted(gpu, key=lambda build: parts(build.version), reverse=True):
        why = _objection(build, box, branch) or (f"older than {found.backend}" if found else "")
        if why:
            rejected.append(f"{build.backend}: {why}")
        else:
            found = build
    if found is None:
        because = f"no locked GPU build fits, so {framework} computes on the CPU"
        return Decision("cpu", because, "hardware", tuple(rejected))
    capabilities = " and ".join(dict.fromkeys(card.compute_capability for card in box.cards))
    because = f"{framework} {found.version} with CUDA {found.cuda} has code for compute capability {capabilities}"
    return Decision(found.backend, because, "hardware", tuple(rejected))


def _objection(build: Build, box: Box, branch: Branch | None) -> str:
    lost = [card for card in box.cards if not runs_on(build.capabilities, card)]
    if lost:
        capabilities = either(dict.fromkeys(card.compute_capability for card in lost))
        return f"has no code for {say(lost)} (compute capability {capabilities})"
    major = parts(build.cuda)[0]
    floor = min((release.floor for release in box.nvidia.cuda if parts(release.version)[0] == major), default=0)
    if branch and floor > branch.number:
        return f"needs driver {floor} or newer for CUDA {build.cuda}, and the driver is {branch.number}"
    return ""


def _backend_faults(
    framework: str, setting: str, box: Box, branch: Branch | None, catalog: Catalog
) -> Iterator[Contradiction]:
    known = {build.backend: build for build in builds(catalog, framework)}
    pinned = box.pins.get(setting)
    hint = "leave it out: the plan then takes a build that fits"
    if pinned and pinned not in known:
        yield setting, f"is {pinned}, for which no build is locked", f"use {either(known)}"
    elif pinned and known[pinned].gpu and not box.cards:
        yield setting, f"is {pinned}, and the host has no NVIDIA GPU", hint
    elif pinned and known[pinned].gpu and (why := _objection(known[pinned], box, branch)):
        yield setting, f"is {pinned}, which {why}", hint
    elif framework == "torch" and not pinned and branch:
        decided = _backend(framework, box, branch, catalog)
        if decided.value == "cpu":  # never silently: the box was bought for its cards
            fact = f"has cards that no locked build of torch serves: {'; '.join(decided.rejected)}"
            yield "", fact, f"take them out, or compute on the CPU: --set {setting}=cpu"

"""What holds for every plan of the solver, whatever the cards, the distribution, the firmware and the pins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import selection_boxes as boxes
from hypothesis import given, settings
from hypothesis import strategies as st

from provision.catalog import load_tier
from provision.errors import ProvisionError
from provision.model import Card, Gpu, Hardware, HostPlan
from provision.resolve import resolve
from provision.solver.frameworks import builds, runs_on

NVIDIA = boxes.CATALOG.nvidia
BRANCHES = {str(branch.number): branch for branch in NVIDIA.branches}
RELEASES = {release.version: release for release in NVIDIA.cuda}
TIER = load_tier("datacenter")

# One product of each architecture, and of each compute capability in it.
KINDS = {(p.architecture.name, p.compute_capability): p.pci_id for p in NVIDIA.products.values()}
CARDS = st.sampled_from(sorted(KINDS.values()))
MODERN = st.sampled_from([KINDS[kind] for kind in sorted(KINDS) if kind[0] not in ("Fermi", "Kepler")])
STRANGER = "10de:ffff"

PINS = st.fixed_dictionaries(
    {},
    optional={
        "nvidia_driver_source": st.sampled_from(["", "ubuntu", "debian", "cuda", "host"]),
        "nvidia_driver_branch": st.sampled_from(["", "1", *BRANCHES]),
        "nvidia_driver_modules": st.sampled_from(["", "open", "proprietary"]),
        "nvidia_driver_version": st.sampled_from(["", "580.65.06", "595.45.04", "1.2"]),
        "nvidia_driver_mok_enrolled": st.booleans(),
        "cuda_versions": st.lists(st.sampled_from([*RELEASES, "1.0"]), max_size=2, unique=True),
        "python_ml_torch_backend": st.sampled_from(["cpu", "cu126", "cu130"]),
        "python_ml_tensorflow_backend": st.sampled_from(["cpu", "cuda12"]),
        "python_ml_python": st.sampled_from(["system", "3.11", "3.12", "3.13"]),
    },
)
BOXES = st.builds(
    lambda os, ids, secure, kind, switches: boxes.hardware(
        os, ids, secure_boot=secure, virtualization=kind, nvswitches=switches
    ),
    st.sampled_from(boxes.DISTRIBUTIONS),
    st.lists(MODERN, min_size=1, max_size=4),
    st.sampled_from([None, False, True]),
    st.sampled_from(["metal", "metal", "vm:kvm", "container:podman", "wsl"]),
    st.sampled_from([(), ("0000:c4:00.0",)]),
)
BOUNDED = settings(deadline=None, max_examples=120)


def planned(box: Hardware, pins: dict[str, Any] | None = None) -> HostPlan | None:
    """The plan, or None where it is refused: nothing else may come of any input."""
    try:
        return resolve("box", box, TIER, [("--set", pins or {})], boxes.CATALOG)
    except ProvisionError:
        return None


def with_card(box: Hardware, pci_id: str) -> Hardware:
    return replace(box, gpus=(*box.gpus, Gpu(pci_id, f"0000:{len(box.gpus) + 1:02x}:00.0", "NVIDIA [one more]")))


def flavour(plan: HostPlan) -> tuple[str, ...]:
    """The architectures that the plan's kernel modules drive."""
    assert plan.driver
    branch = BRANCHES[plan.driver.branch]
    return branch.open_architectures if plan.driver.modules == "open" else branch.proprietary_architectures


def serves(plan: HostPlan, card: Card) -> bool:
    """Whether driver, first toolkit and torch of a plan are ones for the card."""
    assert plan.driver
    torch = {build.backend: build for build in builds(boxes.CATALOG, "torch")}[plan.frameworks.torch_backend]
    return (
        (plan.driver.source == "host" or card.architecture in flavour(plan))
        and (not plan.cuda or card.architecture in RELEASES[plan.cuda[0]].architectures)
        and (not torch.gpu or runs_on(torch.capabilities, card))
    )


@given(BOXES, PINS)
@BOUNDED
def test_a_plan_serves_every_card_of_the_box(box: Hardware, pins: dict[str, Any]) -> None:
    plan = planned(box, pins)
    if plan:
        assert len(plan.cards) == len(box.gpus)
        assert all(serves(plan, card) for card in plan.cards)
        assert plan.frameworks.torch_backend != "cpu" or pins.get("python_ml_torch_backend") == "cpu"


@given(BOXES, PINS)
@BOUNDED
def test_no_plan_goes_below_a_floor_of_the_driver(box: Hardware, pins: dict[str, Any]) -> None:
    plan = planned(box, pins)
    branch = plan and plan.driver and (plan.driver.branch or plan.settings["nvidia_driver_branch"])
    if not plan or not branch:
        return
    every = {name: builds(boxes.CATALOG, name) for name in ("torch", "tensorflow")}
    chosen = {"torch": plan.frameworks.torch_backend, "tensorflow": plan.frameworks.tensorflow_backend}
    needed = list(plan.cuda)
    needed += [build.cuda for name, found in every.items() for build in found if build.backend == chosen[name]]
    for version in filter(None, needed):
        major = version.split(".")[0]
        assert int(branch) >= min(r.floor for r in RELEASES.values() if r.version.split(".")[0] == major)


@given(BOXES, PINS)
@BOUNDED
def test_the_driver_is_one_that_somebody_offers_and_that_loads(box: Hardware, pins: dict[str, Any]) -> None:
    plan = planned(box, pins)
    if not plan or not plan.driver or plan.driver.source == "host":
        return
    name = f"{box.os.id}-{box.os.version}"
    found = [
        origin
        for origin in BRANCHES[plan.driver.branch].origins
        if (origin.source, origin.distribution) == (plan.driver.source, name) and plan.driver.modules in origin.modules
    ]
    assert [origin.prebuilt for origin in found] == [plan.driver.prebuilt]
    assert plan.driver.prebuilt or not box.firmware.secure_boot or pins.get("nvidia_driver_mok_enrolled")
    asked = any(pins.get(f"nvidia_driver_{pin}") for pin in ("source", "branch", "version"))
    assert asked or BRANCHES[plan.driver.branch].status != "ended"
    assert box.firmware.virtualization != "wsl"


@given(BOXES, PINS)
@BOUNDED
def test_pins_are_honoured_or_refused(box: Hardware, pins: dict[str, Any]) -> None:
    plan = planned(box, pins)
    if plan:
        assert {name: plan.settings[name] for name, value in pins.items() if value != ""} == {
            name: value for name, value in pins.items() if value != ""
        }
        told = plan.driver
        assert told
        assert pins.get("nvidia_driver_source") in (None, "", told.source)
        if told.source != "host":
            assert pins.get("nvidia_driver_branch") in (None, "", told.branch)
            assert pins.get("nvidia_driver_modules") in (None, "", told.modules)
            assert (pins.get("nvidia_driver_version") or told.branch).split(".")[0] == told.branch


@given(BOXES, st.one_of(CARDS, st.just(STRANGER)), PINS)
@BOUNDED
def test_one_more_card_never_makes_a_refusal_a_plan(box: Hardware, pci_id: str, pins: dict[str, Any]) -> None:
    if planned(box, pins) is None:
        assert planned(with_card(box, pci_id), pins) is None


@given(BOXES, CARDS)
@BOUNDED
def test_a_plan_for_more_cards_serves_those_that_were_there(box: Hardware, pci_id: str) -> None:
    more = planned(with_card(box, pci_id))
    if more:
        fewer = planned(box)
        assert fewer
        assert all(serves(more, card) for card in fewer.cards)


@given(st.lists(st.one_of(CARDS, st.just(STRANGER)), max_size=3), st.sampled_from(boxes.DISTRIBUTIONS))
@BOUNDED
def test_an_unknown_card_is_refused_and_an_assumed_one_is_marked(ids: list[str], distribution: str) -> None:
    box = boxes.hardware(distribution, ids)
    if STRANGER in ids:
        assert planned(box) is None
    elif plan := planned(box):
        assert [card.pci_id for card in plan.cards] == ids
        assert not any(card.assumed for card in plan.cards)

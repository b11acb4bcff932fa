"""network-tuning: what it reads of a card, and what it would do to it. The real card is in tests/integration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from provision.content import load, roles_dir

RINGS = """\
Ring parameters for enp1s0:
Pre-set maximums:
RX:\t\t4096
RX Mini:\tn/a
RX Jumbo:\t4096
TX:\t\t4096
Current hardware settings:
RX:\t\t1024
RX Mini:\tn/a
RX Jumbo:\t512
TX:\t\t512
"""
CHANNELS = """\
Channel parameters for enp1s0:
Pre-set maximums:
RX:\t\tn/a
Other:\t\t1
Combined:\t32
Current hardware settings:
RX:\t\tn/a
Other:\t\t1
Combined:\t{}
"""
FQ_CODEL = [{"kind": "mq", "root": True}, {"kind": "fq_codel", "parent": ":1"}, {"kind": "fq_codel", "parent": ":2"}]
FQ = [{"kind": "mq", "root": True}, {"kind": "fq", "parent": ":1"}, {"kind": "fq", "parent": ":2"}]
DECLARED: dict[str, Any] = {
    "cards": ["enp1s0"], "rings": "keep", "queues": "keep", "irq_affinity": "keep", "qdisc": "", "country": "",
    "power_save": True,
}  # fmt: skip


class Card:
    """A card's answers by command, and everything that was set."""

    def __init__(self, tuning: ModuleType) -> None:
        self.answers = {
            "ethtool -g": RINGS, "ethtool -l": CHANNELS.format(2), "tc -j": json.dumps(FQ_CODEL),
            "iw reg": "global\ncountry 00: DFS-UNSET\n", "iw dev": "Power save: on\n",
        }  # fmt: skip
        self.set: list[str] = []
        self.trouble = tuning.Trouble

    def run(self, *argv: str) -> str:
        answer = self.answers.get(" ".join(argv[:2]))
        if answer is None or "set" in argv or "replace" in argv:
            self.set.append(" ".join(argv))
            return ""
        if answer.startswith("!"):
            raise self.trouble(answer[1:])
        return answer


@pytest.fixture
def tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load(roles_dir() / "network" / "module_utils" / "network_tuning.py")
    monkeypatch.setattr(module, "NET", f"{tmp_path}/")
    for queue in ("tx-0", "tx-1"):
        (tmp_path / "enp1s0" / "queues" / queue).mkdir(parents=True)
    (tmp_path / "enp1s0" / "flags").write_text("0x1003\n")
    return module


@pytest.fixture
def card(tuning: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Card:
    found = Card(tuning)
    monkeypatch.setattr(tuning, "run", found.run)
    return found


@pytest.fixture
def told(tuning: ModuleType, card: Card) -> Callable[..., tuple[list[str], list[str]]]:
    def apply(*, check: bool = False, **declared: Any) -> tuple[list[str], list[str]]:
        result: tuple[list[str], list[str]] = tuning.apply({**DECLARED, **declared}, check, lambda _: None)
        return result

    return apply


Told = Callable[..., tuple[list[str], list[str]]]


def test_nothing_is_touched_that_is_not_declared(told: Told, card: Card) -> None:
    assert told() == ([], [])
    assert card.set == []


def test_rings_become_as_large_as_the_card_allows(told: Told, card: Card) -> None:
    assert told(rings="max") == (["enp1s0: descriptors in its rings: rx 4096 tx 4096"], [])
    assert card.set == ["ethtool -G enp1s0 rx 4096 tx 4096"]
    card.set.clear()
    told(rings="2048")
    assert card.set == ["ethtool -G enp1s0 rx 2048 tx 2048"]
    card.set.clear()
    told(rings="9999")
    assert card.set == ["ethtool -G enp1s0 rx 4096 tx 4096"]


def test_check_says_it_and_sets_nothing(told: Told, card: Card) -> None:
    assert told(check=True, rings="max", qdisc="fq")[0] != []
    assert card.set == []


def test_queues_are_clamped_and_what_is_right_is_left(told: Told, card: Card) -> None:
    told(queues="64")
    assert card.set == ["ethtool -L enp1s0 combined 32"]
    card.set.clear()
    card.answers["ethtool -l"] = CHANNELS.format(16)
    assert told(queues="16") == ([], [])


def test_a_card_without_rings_is_no_trouble_and_one_that_refuses_is(told: Told, card: Card) -> None:
    card.answers["ethtool -g"] = "!ethtool -g enp1s0 ended with 75 and says: netlink error: Operation not supported"
    assert told(rings="max") == ([], [])
    card.answers["ethtool -g"] = "!ethtool -g enp1s0 ended with 1 and says: Input/output error"
    assert told(rings="max", qdisc="fq")[1] == ["enp1s0: ethtool -g enp1s0 ended with 1 and says: Input/output error"]
    assert "tc qdisc replace dev enp1s0 root mq" in card.set  # the rest is done all the same


def test_each_queue_gets_the_declared_discipline(told: Told, card: Card) -> None:
    assert told(qdisc="fq")[0] == ["enp1s0: queueing by fq instead of fq_codel"]
    card.answers["tc -j"] = json.dumps(FQ)
    assert told(qdisc="fq") == ([], [])


def test_interrupts_go_round_the_processors_near_the_card(
    told: Told, tuning: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    affinity = {40: "0-7", 41: "5", 42: "0-7"}
    monkeypatch.setattr(tuning, "interrupts", lambda _: sorted(affinity))
    monkeypatch.setattr(tuning, "near", lambda _: [4, 5])
    monkeypatch.setattr(tuning, "read", lambda path: affinity.get(int(path.split("/")[3]), "") if "irq" in path else "")
    monkeypatch.setattr(tuning, "write", lambda path, text: affinity.update({int(path.split("/")[3]): text}))
    assert told(irq_affinity="spread")[0] == [
        "enp1s0: interrupt 40 at processor 4 instead of 0-7", "enp1s0: interrupt 42 at processor 4 instead of 0-7",
    ]  # fmt: skip
    assert affinity == {40: "4", 41: "5", 42: "4"}
    assert told(irq_affinity="spread") == ([], [])


def test_processors_are_read_as_the_kernel_writes_them(tuning: ModuleType) -> None:
    assert tuning.cpus("0-3,8,10-11") == [0, 1, 2, 3, 8, 10, 11]
    assert tuning.cpus("") == []


def test_a_wireless_card_gets_its_country_and_stays_awake(told: Told, card: Card, tmp_path: Path) -> None:
    (tmp_path / "enp1s0" / "phy80211").mkdir()
    assert told(country="DE", power_save=False)[0] == [
        "enp1s0: the regulatory domain DE", "enp1s0: no power saving",
    ]  # fmt: skip
    assert card.set == ["iw reg set DE", "iw dev enp1s0 set power_save off"]
    card.answers |= {"iw reg": "global\ncountry DE: DFS-ETSI\n", "iw dev": "Power save: off\n"}
    assert told(country="DE", power_save=False) == ([], [])


def test_a_card_that_is_gone_is_named_with_those_there(told: Told) -> None:
    assert told(cards=["eth7"])[1] == ["there is no network card eth7; those there: enp1s0"]


@pytest.mark.parametrize(("words", "code"), [(["--check"], 3), ([], 0)])
def test_check_ends_with_a_number_of_its_own(
    tuning: ModuleType, card: Card, tmp_path: Path, words: list[str], code: int
) -> None:
    path = tmp_path / "network.json"
    path.write_text(json.dumps({**DECLARED, "rings": "max"}))
    assert tuning.main([*words, str(path)]) == code

"""After a reboot: what the kernel has loaded decides whether a driver stays or the previous one comes back."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.unit.nvidia_driver_parts import Box, Ended, closure, library, moves, state

settle = library("nvidia_driver_settle")
OLD = closure("570.211.01", nvidia_utils="570.211.01-1", libnvidia_compute_570="570.211.01-1")
NEW = closure("580.95.05", nvidia_utils="580.95.05-1", libnvidia_compute_580="580.95.05-1")


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    box = Box(tmp_path, monkeypatch)
    monkeypatch.setattr(settle, "AnsibleModule", lambda **_: box)
    box.params = {"rebooted": True}
    box.installed(NEW["packages"])
    return box


def awaiting(previous: dict[str, Any] | None) -> None:
    """The move to NEW is done and waits for the reboot."""
    for known in filter(None, (previous, NEW)):
        state.keep(known)
    state.make_current(NEW)
    state.note(stage="awaiting-reboot", to=NEW["id"], previous=previous["id"] if previous else None, boot_id="first")


def run() -> Ended:
    with pytest.raises(Ended) as ended:
        settle.main()
    return ended.value


def test_without_a_journal_there_is_nothing_to_judge(box: Box) -> None:
    assert run().result == {"changed": False, "msg": "no reboot is awaited", "reboot_required": False}


def test_a_boot_id_that_did_not_change_is_no_reboot(box: Box) -> None:
    awaiting(OLD)
    box.has(loaded=NEW["version"], library=NEW["version"])
    ended = run()
    assert ended.failed
    assert "did not: its boot id is still first" in ended.result["msg"]
    assert "--reboot allow" in ended.result["msg"]
    assert box.journal()["stage"] == "awaiting-reboot"


def test_before_the_reboot_it_is_still_due(box: Box) -> None:
    awaiting(OLD)
    box.params = {"rebooted": False}
    assert run().result["reboot_required"]


def test_the_right_module_proves_the_driver_and_keeps_the_one_before(box: Box) -> None:
    awaiting(OLD)
    state.keep(closure("535.1.1", nvidia_utils="535.1.1-1"))
    box.boot("second")
    box.has(loaded=NEW["version"], library=NEW["version"])
    ended = run()
    assert (ended.failed, ended.result["changed"], ended.result["reboot_required"]) == (False, True, False)
    assert box.journal()["stage"] == "proved"
    assert sorted(path.name for path in (box.root / "state" / "cache").iterdir()) == sorted([OLD["id"], NEW["id"]])


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"loaded": "570.211.01", "library": "580.95.05"}, "the module 570.211.01 loaded; the libraries are 580.95.05"),
        ({"loaded": "580.95.05", "library": "570.211.01"}, "the module 580.95.05 loaded; the libraries are 570.211.01"),
        ({"library": "580.95.05", "built": "580.95.05"}, "has no nvidia module loaded"),
        ({"library": "580.95.05", "card": False}, "on disk there is no module for it"),
    ],
    ids=["old module", "old library", "a card and no module", "no card and no module built"],
)  # fmt: skip
def test_whatever_else_brings_the_previous_driver_back(box: Box, seen: dict[str, Any], said: str) -> None:
    awaiting(OLD)
    box.boot("second")
    box.has(**seen)
    ended = run()
    assert ended.failed
    assert said in ended.result["msg"]
    assert f"The host is back at {OLD['id']}" in ended.result["msg"]
    words = "libnvidia-compute-570=570.211.01-1 nvidia-utils=570.211.01-1 libnvidia-compute-580-"
    assert box.ran("apt-get install")[-1].endswith(words)
    current = state.current()
    assert current
    assert current["id"] == OLD["id"]
    journal = box.journal()
    assert (journal["failed"]["id"], journal["failed"]["wish"]) == (NEW["id"], NEW["wish"])
    assert (journal["stage"], journal["previous"]) == ("awaiting-reboot", None)
    assert "570.211.01-1" in (box.root / "preferences").read_text()


def test_nouveau_in_the_drivers_place_is_named(box: Box) -> None:
    awaiting(OLD)
    box.boot("second")
    box.has(library=NEW["version"], built=NEW["version"])
    box.write("sys/module/nouveau/refcnt", "1")
    assert "nouveau holds the card" in run().result["msg"]


def test_the_way_back_needs_no_network(box: Box) -> None:
    package = box.write(f"state/cache/{OLD['id']}/nvidia-utils_570.211.01-1_amd64.deb", "package")
    kept = {"nvidia-utils": {"file": package.name, "sha256": hashlib.sha256(b"package").hexdigest()}}
    awaiting({**OLD, "kept": kept})
    box.boot("second")
    run()
    assert f" {package} " in box.ran("apt-get install")[-1]


def test_a_kept_package_that_was_changed_is_not_installed(box: Box) -> None:
    package = box.write(f"state/cache/{OLD['id']}/nvidia-utils_570.211.01-1_amd64.deb", "package")
    awaiting({**OLD, "kept": {"nvidia-utils": {"file": package.name, "sha256": "0" * 64}}})
    box.boot("second")
    ended = run()
    assert f"could not be brought back: {package} was changed since it was kept" in ended.result["msg"]
    assert box.ran("apt-get install") == []
    assert box.journal()["stage"] == "stranded"


def test_without_a_previous_driver_the_packages_stay(box: Box) -> None:
    awaiting(None)
    box.boot("second")
    box.has(library=NEW["version"])
    ended = run()
    assert "There is no earlier driver on this host to return to" in ended.result["msg"]
    assert box.ran("apt-get install") == []
    assert box.journal()["stage"] == "stranded"


def test_a_driver_that_was_brought_back_is_judged_after_its_own_reboot(box: Box) -> None:
    awaiting(OLD)
    box.boot("second")
    run()
    box.boot("third")
    box.has(loaded=OLD["version"], library=OLD["version"])
    assert not run().failed
    assert box.journal()["stage"] == "proved"
    assert box.journal()["failed"]["id"] == NEW["id"]


def test_check_mode_judges_and_changes_nothing(box: Box) -> None:
    awaiting(OLD)
    box.boot("second")
    box.check_mode = True
    assert run().result["changed"]
    assert box.journal()["stage"] == "awaiting-reboot"


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        ({"loaded": "580.95.05", "library": "580.95.05", "card": False}, "fit"),
        ({"built": "580.95.05", "library": "580.95.05", "card": False}, "unknown"),
        ({"built": "570.211.01", "library": "580.95.05", "card": False}, "unfit"),
    ],
)
def test_a_machine_that_shows_no_card_proves_nothing_unless_the_module_is_loaded(
    box: Box, seen: dict[str, Any], verdict: str
) -> None:
    box.has(**seen)
    assert moves.judge(box, NEW)[0] == verdict


def test_a_container_is_never_judged(box: Box) -> None:
    box.answers["systemd-detect-virt"] = (0, "podman\n", "")
    box.has(loaded="570.211.01", library="580.95.05")
    assert moves.judge(box, NEW) == ("unknown", "a container (podman) has no kernel of its own to load a module into")

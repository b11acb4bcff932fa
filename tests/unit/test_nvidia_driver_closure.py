"""How a closure is worked out from apt's answers, when it moves, and what a run does that finds the host half moved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.nvidia_driver_parts import RELEASE, ROLE, Box, Ended, apt, closure, library, moves, plan, state

module = library("nvidia_driver_closure")
ROUTES = yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["__nvidia_driver_routes"]
WISH = {
    "source": "debian", "branch": "535", "version": "", "modules": "open", "display": False, "fabric_manager": False,
}  # fmt: skip

# apt's own answers, shortened: a pinned-away archive, a version that only dpkg knows, a foreign architecture.
POLICY = """\
nvidia-open-kernel-dkms:
  Installed: 535.216.03-1
  Candidate: 535.261.03-1
  Version table:
     580.95.05-1 -1
        500 https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64  Packages
     535.261.03-1 500
        500 http://deb.debian.org/debian bookworm/non-free amd64 Packages
 *** 535.216.03-1 100
        100 /var/lib/dkms/status
        100 /var/lib/dpkg/status
nvidia-smi:
  Installed: (none)
  Candidate: 535.261.03-1
  Version table:
     535.261.03-1 500
        500 http://deb.debian.org/debian bookworm/non-free amd64 Packages
"""
SIMULATED = """\
Reading package lists...
Remv nvidia-kernel-dkms [535.216.03-1]
Inst libcuda1 [535.216.03-1] (535.261.03-1 Debian:12.12/oldstable [amd64]) []
Inst libnvidia-ml1:amd64 (535.261.03-1 Debian:12.12/oldstable, Debian-Security:12/oldstable-security [amd64])
Inst libcuda1:i386 (535.261.03-1 Debian:12.12/oldstable [i386])
Conf libcuda1 (535.261.03-1 Debian:12.12/oldstable [amd64])
"""


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    box = Box(tmp_path, monkeypatch)
    monkeypatch.setattr(module, "AnsibleModule", lambda **_: box)
    monkeypatch.setattr(module, "BUILD_LOG", str(tmp_path / "failed-build.log"))
    box.params = {"wish": WISH, "route": ROUTES["debian"], "upgrade": False}
    box.installed({})
    return box


def run() -> Ended:
    with pytest.raises(Ended) as ended:
        module.main()
    return ended.value


def test_versions_that_preferences_keep_out_are_not_offered(box: Box) -> None:
    box.answers["apt-cache policy"] = (0, POLICY, "")
    assert apt.Apt(box).offers(["nvidia-open-kernel-dkms", "nvidia-smi"]) == {
        "nvidia-open-kernel-dkms": [("535.261.03-1", True), ("535.216.03-1", True)],
        "nvidia-smi": [("535.261.03-1", True)],
    }


def test_the_outcome_of_a_transaction_is_every_packages_version_afterwards(box: Box) -> None:
    before = {"libcuda1": "535.216.03-1", "nvidia-kernel-dkms": "535.216.03-1", "bash": "5"}
    outcome = apt.Outcome(before, SIMULATED, "amd64")
    new = dict.fromkeys(("libcuda1", "libnvidia-ml1", "libcuda1:i386"), "535.261.03-1")
    assert outcome.versions == {**new, "bash": "5"}
    assert outcome.removed == ["nvidia-kernel-dkms"]
    assert outcome.origins["libnvidia-ml1"] == "Debian:12.12/oldstable"


@pytest.mark.parametrize(
    ("said", "sizes"),
    [
        ("Need to get 83.3 MB/101 MB of archives.\n"
         "After this operation, 1,045 MB of additional disk space will be used.\n",
         (83_300_000, 1_045_000_000)),
        ("Need to get 0 B/101 kB of archives.\n"
         "After this operation, 512 B of additional disk space will be used.\n", (0, 512)),
        ("Need to get 9,876 B of archives.\nAfter this operation, 20.5 kB disk space will be freed.\n", (9876, 0)),
        ("0 upgraded, 0 newly installed.\n", (0, 0)),
    ],
)  # fmt: skip
def test_the_room_a_transaction_takes_is_what_apt_says(box: Box, said: str, sizes: tuple[int, int]) -> None:
    box.answers["apt-get install --assume-no"] = (1, said, "")
    assert apt.Apt(box).sizes(["nvidia-smi"]) == sizes


def test_apts_reasons_are_told_in_one_line() -> None:
    out = "Some text\nThe following packages have unmet dependencies:\n a : Depends: b (= 1) but 2 is to be installed\n"
    assert apt.told(out, "E: Unable to correct problems\n") == (
        "a : Depends: b (= 1) but 2 is to be installed E: Unable to correct problems"
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, ""),
        ({"branch": "580"}, "branch was 535 and is now 580"),
        (
            {"modules": "proprietary", "version": "535.1"},
            "modules was open and is now proprietary; version was  and is",
        ),
    ],
)
def test_the_closure_moves_only_when_something_else_is_wished(box: Box, change: dict[str, str], why: str) -> None:
    known = {**closure("535.261.03", nvidia_smi="535.261.03-1"), "wish": WISH}
    state.make_current(known)
    assert moves.why_move({**WISH, **change}, False, known["packages"]).startswith(why)
    assert bool(moves.why_move({**WISH, **change}, False, known["packages"])) is bool(why)


def test_a_package_that_strayed_is_named(box: Box) -> None:
    state.make_current({**closure("535.261.03", nvidia_smi="2", libcuda1="2"), "wish": WISH})
    assert moves.why_move(WISH, False, {"nvidia-smi": "3"}) == (
        "the locked packages are not as locked: libcuda1 is missing instead of 2, nvidia-smi is 3 instead of 2"
    )


def locked(box: Box, **entries: Any) -> dict[str, Any]:
    """A closure that was installed, locked and proved."""
    known: dict[str, Any] = {**closure("535.216.03", nvidia_smi="535.216.03-1"), "wish": WISH, **entries}
    box.installed(known["packages"])
    state.keep(known)
    state.make_current(known)
    state.note(stage="proved", to=known["id"], previous=None, boot_id="first")
    moves.lock(apt.Apt(box), known)
    box.asked.clear()
    return known


def test_what_is_locked_is_left_alone(box: Box) -> None:
    locked(box)
    ended = run()
    assert (ended.failed, ended.result["changed"], ended.result["reboot_required"]) == (False, False, False)
    assert box.ran("apt") == []


@pytest.mark.parametrize("check", [False, True])
def test_a_lock_that_was_taken_off_is_put_right(box: Box, check: bool) -> None:
    known = locked(box)
    (box.root / "preferences").unlink()
    box.installed(known["packages"], held=False)
    box.check_mode = check
    ended = run()
    assert ended.result["changed"]
    assert f"put right {box.root}/preferences, dpkg's holds" in ended.result["msg"]
    assert box.ran("apt-mark") == ([] if check else ["apt-mark hold nvidia-smi"])
    assert (box.root / "preferences").exists() is not check


def test_check_mode_foretells_an_installation_on_a_bare_host(box: Box) -> None:
    box.check_mode = True
    assert run().result["changed"]
    assert box.ran("apt-get") == []


def test_a_branch_that_is_not_offered_is_refused_with_what_there_is(box: Box) -> None:
    box.answers["apt-cache"] = (0, POLICY, "")
    box.params["wish"] = {**WISH, "branch": "590"}
    ended = run()
    assert ended.failed
    assert "apt offers no nvidia-open-kernel-dkms of NVIDIA's driver branch 590 (open modules) on this host" in str(
        ended
    )
    assert "it has nvidia-open-kernel-dkms=535.261.03-1" in str(ended)
    assert "nothing was installed" in str(ended)


def test_check_mode_foretells_a_move_to_an_archive_that_is_not_there_yet(box: Box) -> None:
    locked(box, wish={**WISH, "source": "ubuntu"})
    box.check_mode = True
    ended = run()
    assert (ended.failed, ended.result["changed"]) == (False, True)
    assert "source was ubuntu and is now debian" in str(ended)


DEBIAN = ("nvidia-smi", "nvidia-driver-bin", "libnvidia-ml1", "libcuda1", "libnvidia-ptxjitcompiler1", "libnvcuvid1")
KERNEL = "6.1.0-41-amd64"


def offering(box: Box, version: str) -> dict[str, str]:
    """apt offers this driver of Debian's and simulates its installation; what that comes to."""
    names = [*DEBIAN, "libnvidia-encode1", "firmware-nvidia-gsp", "nvidia-open-kernel-dkms", "nvidia-persistenced"]
    table = "".join(
        f"{name}:\n  Version table:\n     {version} 500\n        500 http://x y Packages\n" for name in names
    )
    box.answers["apt-cache"] = (0, table, "")
    packages = {
        **dict.fromkeys(names, version),
        f"linux-headers-{KERNEL}": "6.1.158-1",
        "linux-headers-amd64": "6.1.158-1",
    }
    steps = "".join(f"Inst {name} ({found} Debian:12/stable [amd64])\n" for name, found in packages.items())
    box.answers["apt-get install --dry-run"] = (0, steps, "")
    box.answers["systemd-detect-virt"] = (0, "podman\n", "")
    return packages


def transaction(
    box: Box,
    packages: dict[str, str],
    at: Callable[[], None] = lambda: None,
    answer: tuple[int, str, str] = (0, "", ""),
) -> None:
    """apt installs the packages and answers; `at` is called in the moment before."""

    def install(words: list[str]) -> tuple[int, str, str]:
        if "--no-download" not in words:
            return 0, "", ""
        at()
        box.installed(packages, held=False)
        return answer

    box.answers["apt-get install"] = install


def test_an_installation_goes_by_one_transaction_and_ends_locked(box: Box) -> None:
    packages = offering(box, "535.261.03-1")
    stages: list[str] = []
    transaction(box, packages, lambda: stages.append(box.journal()["stage"]))
    ended = run()
    assert not ended.failed, ended
    assert stages == ["installing"], "a run that dies in the transaction must be found by the next"
    assert ended.result["closure"]["packages"] == packages
    assert ended.result["closure"]["kernels"] == [KERNEL]
    assert len([line for line in box.ran("apt-get install") if "--no-download" in line]) == 1
    assert box.journal()["stage"] == "installed"
    assert "a container (podman) has no kernel" in box.journal()["why"]
    assert box.ran("apt-mark hold") == ["apt-mark hold " + " ".join(sorted(packages))]


def test_an_installation_that_fails_is_taken_back_and_its_build_log_kept(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = locked(box)
    offering(box, "535.261.03-1")
    log = box.write("make.log", "CC conftest.o\n nvidia.c:7:2: error: too old a kernel\nmake: *** Error 2\n")
    monkeypatch.setattr(module.glob, "glob", lambda pattern: [str(log)] if "make.log" in pattern else [])
    fails = (100, "", "dpkg: error processing package nvidia-open-kernel-dkms (--configure):\n")
    box.answers["apt-get install"] = lambda words: fails if "--no-download" in words else (0, "", "")
    box.params["upgrade"] = True
    ended = run()
    assert ended.failed
    assert "nvidia.c:7:2: error: too old a kernel" in str(ended)
    assert f"The host is back at {known['id']}" in str(ended)
    assert "too old a kernel" in (box.root / "failed-build.log").read_text()
    assert box.journal()["to"] == known["id"]
    assert box.journal()["stage"] == "installed"
    assert state.current() == known


def test_a_first_installation_that_fails_leaves_no_driver_and_a_working_apt(box: Box) -> None:
    packages = offering(box, "535.261.03-1")
    transaction(box, packages, answer=(100, "", "E: Sub-process /usr/bin/dpkg returned an error code (1)\n"))
    ended = run()
    assert ended.failed
    assert "It was removed again: there was no driver before it" in str(ended)
    removed = {word[:-1] for word in box.ran("apt-get install")[-1].split() if word.endswith("-")}
    assert removed == {name for name in packages if not name.startswith("linux-")}
    assert box.journal()["stage"] == "removed"
    assert state.current() is None
    box.installed({})
    assert "is not installed again: it did not work on this host" in str(run())


def test_a_run_that_died_in_the_middle_is_continued_and_its_way_back_kept(box: Box) -> None:
    known = locked(box)
    packages = offering(box, "535.261.03-1")
    wished = plan.Planner(apt.Apt(box), WISH, ROUTES["debian"], "").plan().closure
    state.note(stage="installing", to=wished["id"], previous=known["id"], boot_id="first")
    box.asked.clear()
    finished: list[bool] = []
    transaction(box, packages, lambda: finished.append(bool(box.ran("dpkg --set-selections"))))
    ended = run()
    assert not ended.failed, ended
    assert finished == [True], "apt refuses to work until dpkg has written down what it did"
    assert f"an earlier run ended in the middle of the move to {wished['id']}" in str(ended)
    assert (box.journal()["stage"], box.journal()["previous"]) == ("installed", known["id"])
    assert sorted(path.name for path in (box.root / "state" / "cache").iterdir()) == sorted([known["id"], wished["id"]])


def test_what_failed_before_is_not_installed_again_by_itself(box: Box) -> None:
    known = locked(box, wish={**WISH, "branch": "530"})
    offering(box, "535.261.03-1")
    wished = plan.Planner(apt.Apt(box), WISH, ROUTES["debian"], "").plan().closure
    failed = {"id": wished["id"], "wish": WISH, "saw": "after the reboot no module was loaded"}
    state.note(stage="proved", to=known["id"], previous=None, boot_id="first", failed=failed)
    ended = run()
    assert ended.failed
    assert f"{wished['id']} is not installed again: it did not work on this host (after the reboot no module" in str(
        ended
    )
    assert f"The driver is at {known['id']}" in str(ended)


def test_a_driver_that_went_back_waits_for_its_reboot_first(box: Box) -> None:
    known = locked(box, wish={**WISH, "branch": "530"})
    failed = {"id": "535.261.03-x", "wish": WISH, "saw": "no module was loaded"}
    state.note(stage="awaiting-reboot", to=known["id"], previous=None, boot_id="first", failed=failed)
    ended = run()
    assert not ended.failed
    assert (ended.result["changed"], ended.result["reboot_required"]) == (False, True)


def test_a_full_disk_is_refused_before_anything_is_touched(box: Box) -> None:
    offering(box, "535.261.03-1")
    grown = "After this operation, 999,999 GB of additional disk space will be used.\n"
    box.answers["apt-get install --assume-no"] = (1, grown, "")
    box.answers["apt-get install"] = lambda words: (1, grown, "") if "--assume-no" in words else (0, "", "")
    ended = run()
    assert ended.failed
    assert "/usr has " in str(ended)
    assert "nothing was changed. Make room" in str(ended)
    assert not (box.root / "state" / "journal.json").exists()


# -- kernels -------------------------------------------------------------------------------------------------------


def planner(box: Box, installed: dict[str, str], route: str = "ubuntu") -> Any:
    box.installed(installed)
    box.answers["dpkg-query --show --showformat ${Package}\t${Depends}"] = (
        0, f"linux-image-generic\tlinux-image-1-generic\nlinux-image-generic-hwe-22.04\tlinux-image-{RELEASE}\n", "",
    )  # fmt: skip
    return plan.Planner(apt.Apt(box), {**WISH, "branch": "580"}, ROUTES[route], RELEASE)


def test_the_flavour_is_that_of_the_meta_package_that_brought_the_running_kernel(box: Box) -> None:
    metas = {"linux-image-generic": "1", "linux-image-generic-hwe-22.04": "1"}
    assert planner(box, metas).flavour == "generic-hwe-22.04"
    assert plan.Planner(apt.Apt(box), WISH, ROUTES["ubuntu"], "").flavour == "generic"


def test_a_kernel_that_would_boot_without_its_module_is_refused(box: Box) -> None:
    asked = planner(box, {"linux-image-5.15.0-91-generic": "1"})
    outcome = apt.Outcome({}, "Inst linux-image-5.15.0-92-generic (1 U:1/x [amd64])\n", "amd64")
    module_name = "linux-modules-nvidia-580-server-open-5.15.0-92-generic"
    assert (
        asked._unfit(outcome, "{branch}-server", "580.1")
        == f"kernel 5.15.0-92-generic would boot without {module_name}"
    )
    outcome.versions[module_name] = "1"
    assert asked._unfit(outcome, "{branch}-server", "580.1") == ""


def test_libraries_of_two_versions_are_refused(box: Box) -> None:
    outcome = apt.Outcome({}, "Inst libnvidia-compute-580-server (580.2.1-1 U:1/x [amd64])\n", "amd64")
    assert planner(box, {})._unfit(outcome, "{branch}-server", "580.1.1") == (
        "libnvidia-compute-580-server 580.2.1-1 would not be of version 580.1.1"
    )


def test_headers_come_in_the_version_of_the_installed_kernel_where_dkms_builds(box: Box) -> None:
    asked = planner(box, {"linux-image-generic": "5", "linux-image-1-generic": "1"}, "cuda_ubuntu")
    assert asked._kernel_words("", [])[0] == ["linux-headers-generic=5"]


def attempt(box: Box, needed: str, left: tuple[str, ...]) -> list[str]:
    """The words of a move to 580.2.1 on a host with these packages of 580.1.1, one of which the new driver needs."""

    def simulate(words: list[str]) -> tuple[int, str, str]:
        if f"{needed}-" in words:
            return 100, "", "E: conflict"
        removed = "".join(f"Remv {word[:-1]} [580.1.1-1]\n" for word in words if word.endswith("-"))
        return 0, "Inst nvidia-utils-580 (580.2.1-1 U:1/x [amd64])\n" + removed, ""

    box.answers["apt-get install --dry-run"] = simulate
    asked = planner(box, {"nvidia-utils-580": "580.1.1-1", **dict.fromkeys(left, "580.1.1-1")})
    words, outcome, why = asked._attempt(["nvidia-utils-580"], "{branch}", "580.2.1", [])
    assert (why, outcome.versions["nvidia-utils-580"]) == ("", "580.2.1-1")
    assert isinstance(words, list)
    return words


def test_what_another_version_leaves_behind_goes_in_the_same_transaction(box: Box) -> None:
    left = ("nvidia-firmware-580-580.1.1", "nvidia-utils-535", "nvidia-headless-no-dkms-580")
    assert attempt(box, "", left)[1:] == [name + "-" for name in sorted(left)]


def test_firmware_of_the_version_before_stays_where_the_driver_wants_it(box: Box) -> None:
    firmware = "nvidia-firmware-580-580.1.1"
    assert attempt(box, firmware, (firmware, "nvidia-utils-535"))[1:] == ["nvidia-utils-535-"]

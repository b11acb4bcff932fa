"""provision_packages: what is asked of dpkg and apt-get, and when. Both are stand-ins; the lab has the real ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODULE = Path(__file__).parents[2] / "playbooks" / "library" / "provision_packages.py"

# Runs the module on folders of the test instead of the machine's.
DRIVER = """
import pathlib
from provision.content import load
module = load(pathlib.Path({module!r}))
module.LISTS, module.STAMP = {root!r} + "/lists", {root!r} + "/state/stamp"
module.FRONTEND_LOCK, module.UPDATES = {root!r} + "/lock", {root!r} + "/updates"
module.time.sleep = lambda seconds: None
module.main()
"""

# One program that stands for dpkg-query, dpkg and apt-get: a status file, a log of what was asked, and faults on order.
STANDIN = """#!{python}
import json, pathlib, sys
root = pathlib.Path({root!r})
status = dict(line.split("=") for line in (root / "status").read_text().split())
faults = json.loads((root / "faults").read_text())
name, words = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
if name == "dpkg-query":
    for package, state in status.items():
        print(state + " \\t" + package + "\\t1.0")
    sys.exit()
verb = "configure" if name == "dpkg" else next(word for word in words if word in ("update", "install"))
verb = "fix" if "--fix-broken" in words else verb
asked = [word for word in words if word[0] != "-" and "::" not in word and word != verb]
with (root / "log").open("a") as log:
    log.write(" ".join([verb] + asked) + "\\n")
if faults.get(verb):
    text = faults[verb].pop(0)
    (root / "faults").write_text(json.dumps(faults))
    sys.stderr.write(text + "\\n")
    sys.exit(0 if text.startswith("W:") else 100)
if verb == "update":
    (root / "lists").mkdir(exist_ok=True)
    (root / "lists" / "x_Release").touch()
if verb in ("configure", "fix"):
    status = {{package: "ii" for package in status}}
if verb == "install":
    wanted = words[words.index("install") + 2 :]
    status.update({{word: "ii" for word in wanted if word[-1] != "-" and word != "virtual"}})
    status = {{package: state for package, state in status.items() if package + "-" not in wanted}}
(root / "status").write_text("\\n".join("=".join(item) for item in status.items()))
"""


class Target:
    """A host's package state in a folder, and the module run on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("dpkg-query", "dpkg", "apt-get"):
            program = root / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(STANDIN.format(python=sys.executable, root=str(root)))
            program.chmod(0o755)
        (root / "lists").mkdir()
        (root / "lists" / "x_Release").touch()
        (root / "state").mkdir()
        (root / "state" / "stamp").touch()
        # The sources of the machine that runs the test are older than lists that are read in the future.
        os.utime(root / "state" / "stamp", (2**32, 2**32))
        self.has("curl=ii")
        self.fails()

    def has(self, *packages: str) -> None:
        (self.root / "status").write_text("\n".join(packages))

    def fails(self, **faults: list[str]) -> None:
        (self.root / "faults").write_text(json.dumps(faults))

    def run(self, check: bool = False, **arguments: Any) -> dict[str, Any]:
        given = {**arguments, "_ansible_check_mode": check, "_ansible_remote_tmp": str(self.root)}
        driver = DRIVER.format(module=str(MODULE), root=str(self.root))
        ended = subprocess.run(
            [sys.executable, "-c", driver], input=json.dumps({"ANSIBLE_MODULE_ARGS": given}), capture_output=True,
            text=True, timeout=60, check=False, env={**os.environ, "PATH": f"{self.root}/bin:{os.environ['PATH']}"},
        )  # fmt: skip
        return dict(json.loads(ended.stdout))

    @property
    def asked(self) -> list[str]:
        log = self.root / "log"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path)


def test_a_host_that_has_everything_is_only_looked_at(target: Target) -> None:
    assert target.run(names=["curl"], absent=["docker.io"], refresh=True)["changed"] is False
    assert target.asked == []


def test_check_mode_foretells_on_a_host_without_lists(target: Target) -> None:
    (target.root / "lists" / "x_Release").unlink()
    foretold = target.run(check=True, names=["curl", "jq"], absent=["curl"])
    assert (foretold["changed"], foretold["installed"], foretold["removed"]) == (True, ["jq"], ["curl"])
    assert target.asked == []


def test_what_is_missing_comes_and_what_must_go_goes_in_one_transaction(target: Target) -> None:
    assert target.run(names=["jq"], absent=["curl"])["changed"] is True
    assert target.asked == ["install jq curl-"]
    assert (target.root / "status").read_text() == "jq=ii"
    assert target.run(names=["jq"], absent=["curl"])["changed"] is False


def test_one_of_several_is_enough_and_the_first_is_the_choice(target: Target) -> None:
    target.has("chrony=ii")
    entry = "systemd-timesyncd | chrony"
    present = target.run(names=[entry])
    assert (present["changed"], present["chosen"]) == (False, {entry: "chrony"})
    target.has("curl=ii")
    assert target.run(names=[entry])["chosen"] == {entry: "systemd-timesyncd"}
    assert target.asked == ["install systemd-timesyncd"]


def test_a_version_is_wanted_by_pattern(target: Target) -> None:
    assert target.run(names=["curl=1.*"])["changed"] is False
    assert target.run(check=True, names=["curl=2.*"])["installed"] == ["curl=2.*"]


@pytest.mark.parametrize("state", ["iF", "iU", "iH", "iW", "it"])
def test_what_dpkg_left_half_done_is_mended_once(target: Target, state: str) -> None:
    target.has("curl=ii", f"libc={state}")
    assert target.run(check=True)["repaired"] == ["libc"]
    assert target.asked == []
    mended = target.run()
    assert (mended["changed"], mended["repaired"]) == (True, ["libc"])
    assert target.asked == ["configure", "fix install"]
    assert target.run()["changed"] is False


def test_what_cannot_be_mended_is_named(target: Target) -> None:
    target.has("broken=iF")
    target.fails(configure=["dpkg: error"], fix=["E: Sub-process /usr/bin/dpkg returned an error code (1)"])
    told = target.run()["msg"]
    assert told == (
        "cannot mend broken: E: Sub-process /usr/bin/dpkg returned an error code (1); see why: sudo dpkg --configure -a"
    )


def test_a_lock_is_waited_for(target: Target) -> None:
    target.fails(install=["E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (apt)"] * 3)
    assert target.run(names=["jq"])["changed"] is True
    assert target.asked == ["install jq"] * 4


def test_a_lock_that_stays_is_told_of_with_the_next_command(target: Target) -> None:
    target.fails(install=["E: Could not get lock /x. It is held by process 7 (apt)"] * 9)
    told = target.run(names=["jq"], lock_timeout=-1)["msg"]
    assert "held by process 7 (apt)" in told
    assert f"sudo fuser -v {target.root}/lock" in told


def test_stale_lists_are_refreshed_without_a_change(target: Target) -> None:
    os.utime(target.root / "state" / "stamp", (0, 0))
    refreshed = target.run(names=["curl"], refresh=True)
    assert (refreshed["changed"], refreshed["refreshed"]) == (False, True)
    assert target.asked == ["update"]


def test_an_archive_that_does_not_answer_leaves_the_lists_stale(target: Target) -> None:
    os.utime(target.root / "state" / "stamp", (0, 0))
    target.fails(update=["W: Failed to fetch http://x/InRelease  Temporary failure"])
    assert "Failed to fetch http://x/InRelease" in json.dumps(target.run(refresh=True)["warnings"])
    assert (target.root / "state" / "stamp").stat().st_mtime == 0


def test_young_lists_that_mislead_are_refreshed_and_the_installation_tried_again(target: Target) -> None:
    target.fails(install=["E: Unable to locate package jq"])
    assert target.run(names=["jq"])["refreshed"] is True
    assert target.asked == ["install jq", "update", "install jq"]


def test_a_virtual_package_is_refused(target: Target) -> None:
    assert target.run(names=["virtual"])["msg"] == "virtual: not a package of that name; name a real package"

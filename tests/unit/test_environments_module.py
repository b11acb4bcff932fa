"""provision_environments: what is built when, and that a failed or interrupted build never takes a good one's place.

uv is a stand-in on purpose: the decisions are the module's. Real builds run on the lab's targets.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODULE = Path(__file__).parents[2] / "playbooks" / "library" / "provision_environments.py"

# Makes what `uv venv` and `uv pip install` would leave: an interpreter, and the metadata of each pin of the lock.
UV = """#!{python}
import pathlib, sys
words = sys.argv[1:]
if words[0] == "venv":
    home = pathlib.Path(words[-1])
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "python").symlink_to(sys.executable)
    (home / ".lock").touch()
else:
    home = pathlib.Path(words[words.index("--python") + 1]).parents[1]
    pins = pathlib.Path(words[words.index("--requirement") + 1]).read_text().split()
    if "wrong==1" in pins:
        listed = "".join(f"\\n           sha256:{{digit * 64}}" for digit in "0123456789")
        told = f"error: Hash mismatch for wrong\\n\\n  Expected:{{listed}}\\n  Computed: sha256:" + "f" * 64
        sys.exit("Using Python\\n" + told)
    afar = "https://index.example/cpu" in words
    if "far==1+cpu" in pins and not afar:
        sys.exit("error: far was not found in the package registry")
    if "a==1" in pins and afar:
        sys.exit("error: a package of the host's own indexes was sought elsewhere")
    for pin in pins if "--dry-run" not in words else []:
        (home / "lib" / "python3.11" / "site-packages" / (pin.replace("==", "-") + ".dist-info")).mkdir(parents=True)
"""


class Target:
    """A root of environments and the module run on it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "envs"
        self.uv = folder / "uv"
        self.uv.write_text(UV.format(python=sys.executable))
        self.uv.chmod(0o755)

    def run(self, check: bool = False, **arguments: Any) -> dict[str, Any]:
        given = {"root": str(self.root), "uv": str(self.uv), "locks": {"torch": "a==1\nb==2"}, **arguments}
        given["_ansible_check_mode"] = check
        given["_ansible_remote_tmp"] = str(self.root.parent)
        words, told = [sys.executable, str(MODULE)], json.dumps({"ANSIBLE_MODULE_ARGS": given})
        ended = subprocess.run(words, input=told, capture_output=True, text=True, timeout=60, check=False)
        return dict(json.loads(ended.stdout))

    @property
    def home(self) -> Path:
        """Where the link of `torch` leads."""
        return (self.root / "torch").resolve()


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path)


def test_check_mode_foretells_the_build_and_writes_nothing(target: Target) -> None:
    foretold = target.run(check=True)
    assert (foretold["changed"], foretold["built"]) == (True, {"torch": "it is not there"})
    assert not target.root.exists()


def test_a_build_is_complete_and_the_second_run_changes_nothing(target: Target) -> None:
    assert target.run()["changed"] is True
    assert (target.home / "provision.json").exists()
    assert not (target.home / ".lock").exists(), "uv's lock is writable by everybody"
    assert target.run()["changed"] is False


@pytest.mark.parametrize("lock", ["a==1", "a==1\nfar==1+cpu"])
def test_the_further_index_serves_only_local_versions_that_the_host_lacks(target: Target, lock: str) -> None:
    assert target.run(locks={"torch": lock}, index_url="https://index.example/cpu")["changed"] is True
    assert "far was not found" in target.run(locks={"torch": "a==1\nfar==1+cpu # anew"})["msg"]


def test_a_new_lock_replaces_the_environment_and_removes_the_former(target: Target) -> None:
    target.run()
    former = target.home
    assert target.run(locks={"torch": "a==2"})["built"] == {"torch": "its lock or interpreter is new here"}
    assert target.home != former
    assert not former.exists()


def test_a_wrong_hash_fails_plainly_and_leaves_the_former_in_use(target: Target) -> None:
    target.run()
    former = target.home
    failed = target.run(locks={"torch": "wrong==1"})
    assert failed["msg"] == (
        "environment torch was not built. The former one stays in use. uv said: error: Hash mismatch for wrong\n"
        f"  Expected:\n (one of those in the lock)\n  Computed: sha256:{'f' * 64}"
    )
    assert target.home == former
    assert sorted(path.name for path in target.root.glob(".torch-*")) == [former.name]
    assert target.run()["changed"] is False


def test_an_interrupted_build_is_built_anew(target: Target) -> None:
    target.run()
    (target.home / "provision.json").unlink()
    assert target.run(check=True)["built"] == {"torch": "an earlier build of it was not finished"}
    assert target.run()["changed"] is True
    assert (target.home / "provision.json").exists()


def test_a_repair_that_fails_leaves_nothing_half_built_in_use(target: Target) -> None:
    target.run()
    (target.home / "bin" / "python").unlink()
    target.uv.write_text(f"#!{sys.executable}\nraise SystemExit('error: no network')\n")
    assert target.run()["msg"] == "environment torch was not built. uv said: error: no network"
    assert not (target.root / "torch").is_symlink()


def test_packages_added_or_removed_by_hand_are_seen(target: Target) -> None:
    target.run()
    packages = next(target.home.glob("lib/python*/site-packages"))
    (packages / "b-2.dist-info").rename(packages / "c-3.dist-info")
    assert target.run()["built"] == {"torch": "packages were added or removed: b-2.dist-info, c-3.dist-info"}
    assert target.run()["changed"] is False


def test_a_lost_link_is_put_back_without_a_build(target: Target) -> None:
    target.run()
    (target.root / "torch").unlink()
    again = target.run()
    assert (again["changed"], again["built"]) == (True, {})
    assert target.home.exists()


def test_an_environment_that_is_declared_no_more_stays_and_is_named(target: Target) -> None:
    target.run(locks={"torch": "a==1", "torch-extra": "a==1"})
    left = target.run(locks={"torch": "a==1"})
    assert (left["changed"], left["undeclared"]) == (False, ["torch-extra"])
    assert (target.root / "torch-extra" / "bin" / "python").exists()


def test_a_directory_in_the_way_is_refused(target: Target) -> None:
    (target.root / "torch").mkdir(parents=True)
    assert target.run(check=True)["msg"].startswith(f"{target.root}/torch is in the way: it is not a link to .torch-")


def test_a_name_that_would_lead_elsewhere_is_refused(target: Target) -> None:
    refused = target.run(locks={"../etc": "a==1"})
    assert refused["msg"] == "'../etc' names no environment: use lower case letters, digits, dashes, underscores"


def test_a_full_disk_is_refused_before_anything_is_built(target: Target) -> None:
    target.run()
    refused = target.run(locks={"torch": "a==2"}, free_mb=10**9)
    assert refused["msg"].endswith("are needed. Nothing was changed: make room first")
    assert target.run()["changed"] is False

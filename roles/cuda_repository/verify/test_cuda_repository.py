"""apt knows NVIDIA's CUDA repository by one key, and takes no driver from it that was not asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from testinfra.host import Host

from provision.content import load, playbooks_dir
from provision.model import HostPlan

SOURCE = "/etc/apt/sources.list.d/cuda-repository.sources"
KEYRING = "/etc/apt/keyrings/cuda-repository.asc"
VARIABLES = yaml.safe_load((Path(__file__).parents[1] / "vars" / "main.yml").read_text())
DRIVERS = ("cuda-drivers", "nvidia-open")


def fingerprints(data: bytes) -> list[str]:
    """By the project's own reader of keys, since a host need not have gpg; none of what is no file of keys."""
    openpgp = load(playbooks_dir() / "module_utils" / "provision_openpgp.py")
    try:
        return list(openpgp.primary_fingerprints(data))
    except ValueError:
        return []


def field(host: Host, name: str) -> str:
    found = re.search(rf"^{name}: (.*)$", host.file(SOURCE).content_string, re.MULTILINE)
    assert found, f"{SOURCE} has no {name}"
    return found.group(1)


@pytest.fixture(scope="module")
def policy(host: Host) -> dict[str, str]:
    """apt's candidate of every package that may not come, and of those of a driver; empty where it has none."""
    answer = host.run(f"LC_ALL=C apt-cache policy cuda {' '.join(DRIVERS)}")
    found = re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (.*)\n  Version table:\n", answer.stdout, re.MULTILINE)
    return {name: "" if version == "(none)" else version for name, version in found}


def test_the_repository_is_signed_by_the_one_key(host: Host, plan: HostPlan) -> None:
    declared = plan.settings["cuda_repository_key_fingerprint"]
    assert field(host, "Signed-By") == KEYRING
    assert fingerprints(host.file(KEYRING).content) == [
        declared or VARIABLES["__cuda_repository_releases"][plan.os.codename]["key"]
    ]
    assert field(host, "URIs").startswith(plan.settings["cuda_repository_url"].rstrip("/") + "/")


def test_apt_has_read_its_lists(host: Host) -> None:
    targets = host.run("apt-get indextargets --format '$(REPO_URI) $(FILENAME)' 'Created-By: Packages'")
    assert targets.rc == 0, f"apt cannot read its sources: {targets.stderr}"
    lists = dict(line.split(" ", 1) for line in targets.stdout.splitlines())
    address = field(host, "URIs").rstrip("/") + "/"
    assert address in lists, f"apt reads no lists of {address}"
    assert host.file(lists[address]).exists, f"{lists[address]} is missing"


def test_nothing_else_brings_it(host: Host) -> None:
    address = re.sub(r"^[a-z]+://", "", field(host, "URIs")).rstrip("/")
    known = f"-e {address} -e developer.download.nvidia.com/compute"
    others = host.run(f"grep -Frls {known} /etc/apt/sources.list /etc/apt/sources.list.d")
    assert [path for path in others.stdout.split() if path != SOURCE and path.endswith((".list", ".sources"))] == []
    assert not host.package("cuda-keyring").is_installed
    retired = set(VARIABLES["__cuda_repository_retired_keys"])
    rings = host.run("find /etc/apt/trusted.gpg /etc/apt/trusted.gpg.d -type f 2>/dev/null").stdout.split()
    trusting = [path for path in rings if retired & set(fingerprints(host.file(path).content))]
    assert trusting == [], "apt trusts the key that NVIDIA withdrew"


def test_its_driver_comes_only_where_the_plan_says_so(plan: HostPlan, policy: dict[str, str]) -> None:
    assert policy.get("cuda") == "", "the bare metapackage could be installed, or apt has no list of the repository"
    found = {name for name in DRIVERS if policy.get(name)}
    assert found == (set(DRIVERS) if plan.settings["cuda_repository_driver"] else set())

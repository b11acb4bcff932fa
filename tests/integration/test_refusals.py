"""Hosts that cannot be worked on as they are: one clear refusal each, the right exit code, nothing touched."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import Target, provision

pytestmark = pytest.mark.lab

CASES = yaml.safe_load((Path(__file__).parents[1] / "cases/refusals/hosts.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def spare(new_target: Callable[..., Target]) -> Target:
    return new_target("spare")


@pytest.fixture(scope="module")
def other_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_host_is_refused_in_one_clear_sentence(
    spare: Target, case: dict[str, Any], other_key: Path, tmp_path: Path
) -> None:
    known_hosts = Path(spare.host.known_hosts)
    if "known_key" in case:
        key = Path(case["known_key"].format(other_key=other_key)).read_text().split()
        known_hosts = tmp_path / "known_hosts"
        known_hosts.write_text(f"{spare.host.address} {key[0]} {key[1]}\n")
    wrong_password = tmp_path / "password"
    wrong_password.write_text("mistaken\n")
    names = {
        "address": spare.host.address, "name": spare.name, "other_key": str(other_key),
        "wrong_password": str(wrong_password), "known_hosts": str(known_hosts),
        "inventory": str(inventory(spare, case, other_key, known_hosts, tmp_path)),
    }  # fmt: skip
    if "prepare" in case:
        spare.sh(case["prepare"])
    try:
        words = [word.format(**names) for word in case["words"]]
        answer = provision("plan", "--tier", "budget", "--output", "json", *words, home=tmp_path)
    finally:
        if "mend" in case:
            spare.sh(case["mend"])
    host = answer.document["hosts"][0]
    told = (answer.code, host["state"], host["failure"]["fact"], host["failure"]["hint"])
    assert told == (case["code"], case["state"], case["fact"].format(**names), case["hint"].format(**names))
    assert host["tasks"] == []


def inventory(spare: Target, case: dict[str, Any], other_key: Path, known_hosts: Path, folder: Path) -> Path:
    """The lab's own inventory entry of the target, with what the case changes."""
    entry = {
        "ansible_host": spare.host.address, "ansible_port": spare.host.port, "ansible_user": spare.host.user,
        "ansible_ssh_private_key_file": spare.host.identity_file,
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={known_hosts} -o IdentitiesOnly=yes",
    }  # fmt: skip
    changes = {key: value.format(other_key=other_key) for key, value in case.get("inventory", {}).items()}
    path = folder / "hosts.json"
    path.write_text(json.dumps({"all": {"hosts": {spare.name: {**entry, **changes}}}}))
    return path

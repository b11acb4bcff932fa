"""provision_trust: which certificates become files, how the store is judged. The distribution's tool is a stand-in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MODULE = Path(__file__).parents[2] / "playbooks" / "library" / "provision_trust.py"
DRIVER = """
import pathlib
from provision.content import load
module = load(pathlib.Path({module!r}))
root = {root!r}
module.LINKS, module.STORE, module.LOCAL = root + "/certs", root + "/certs/ca-certificates.crt", root + "/local"
module.SHIPPED, module.SELECTED, module.TOOL = root + "/shipped", root + "/selected", root + "/tool"
module.main()
"""
TOOL = """#!/bin/sh
cd {root} && echo ran >> log && rm -f certs/*.pem
cat shipped/* local/*.crt > certs/ca-certificates.crt 2>/dev/null
for file in local/*.crt; do [ -e "$file" ] && ln -s "$PWD/$file" "certs/$(basename "$file" .crt).pem"; done; true
"""


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three certificates in PEM form."""
    folder = tmp_path_factory.mktemp("authorities")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    for name in "abc":
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
        subprocess.run(["openssl", "req", "-x509", *curve, *files], cwd=folder, capture_output=True, check=True)
    return [(folder / f"{name}.pem").read_text() for name in "abc"]


class Target:
    """A host's trust in a folder, and the module run on it."""

    def __init__(self, root: Path, shipped: str) -> None:
        self.root = root
        for name in ("certs", "local", "shipped"):
            (root / name).mkdir()
        (root / "shipped" / "shipped.crt").write_text(shipped)
        (root / "selected").write_text("# the distribution's\nshipped.crt\n")
        self.tool = root / "tool"
        self.tool.write_text(TOOL.format(root=root))
        self.tool.chmod(0o755)

    def run(self, bundle: str, check: bool = False) -> dict[str, Any]:
        given = {"bundle": bundle, "_ansible_check_mode": check, "_ansible_remote_tmp": str(self.root)}
        driver = DRIVER.format(module=str(MODULE), root=str(self.root))
        told = json.dumps({"ANSIBLE_MODULE_ARGS": given})
        ended = subprocess.run(
            [sys.executable, "-c", driver], input=told, capture_output=True, text=True, timeout=60, check=False
        )
        return dict(json.loads(ended.stdout))

    def local(self) -> int:
        return len(list((self.root / "local").glob("provision-*.crt")))

    def store(self) -> str:
        return (self.root / "certs" / "ca-certificates.crt").read_text()


@pytest.fixture
def target(tmp_path: Path, authorities: list[str]) -> Target:
    return Target(tmp_path, authorities[0])


def test_only_what_the_distribution_lacks_becomes_files_one_each(target: Target, authorities: list[str]) -> None:
    bundle = "a note\n".join(authorities)
    assert target.run(bundle, check=True)["changed"] is True
    assert target.local() == 0
    assert target.run(bundle)["changed"] is True
    assert target.local() == 2
    assert target.run(bundle)["changed"] is False


def test_a_certificate_that_the_administrator_deselected_is_brought(target: Target, authorities: list[str]) -> None:
    (target.root / "selected").write_text("!shipped.crt\n")
    target.run(authorities[0])
    assert target.local() == 1


def test_what_leaves_the_bundle_leaves_the_host(target: Target, authorities: list[str]) -> None:
    target.run(authorities[1] + authorities[2])
    assert len(target.run(authorities[1])["paths"]) == 1
    assert authorities[2].strip() not in target.store()
    target.run("")
    assert (target.local(), list((target.root / "certs").glob("*.pem"))) == (0, [])
    assert target.run("")["changed"] is False


@pytest.mark.parametrize("loss", ["certs/ca-certificates.crt", "certs/provision-*.pem"])
def test_a_store_that_was_not_finished_is_made_good(target: Target, authorities: list[str], loss: str) -> None:
    target.run(authorities[1])
    for path in target.root.glob(loss):
        path.unlink()
    assert target.run(authorities[1])["changed"] is True
    assert target.run(authorities[1])["changed"] is False


def test_without_the_tool_the_bundle_is_the_store_until_the_package_comes(
    target: Target, authorities: list[str]
) -> None:
    target.tool.unlink()
    first = target.run(authorities[1])
    assert (first["changed"], first["bootstrapped"]) == (True, True)
    assert target.store() == authorities[1]
    assert target.run(authorities[1])["changed"] is False
    assert target.run("")["bootstrapped"] is False


@pytest.mark.parametrize(
    ("bundle", "told"),
    [
        ("no certificate at all", "the CA bundle holds no certificate in PEM form"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            "the CA bundle holds something that is not a certificate: ",
        ),
    ],
)
def test_a_damaged_bundle_is_refused_before_anything_changes(target: Target, bundle: str, told: str) -> None:
    assert target.run(bundle)["msg"].startswith(told)
    assert not (target.root / "log").exists()

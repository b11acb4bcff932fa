"""uv is the one that was pinned, and both it and pip reach the host's indexes with the host's certificates."""

from __future__ import annotations

from pathlib import Path

from testinfra.host import Host

LOCK = Path(__file__).parents[1] / "files" / "uv.txt"
PIN = next(line.split()[0] for line in LOCK.read_text().splitlines() if line.startswith("uv=="))
HOME = "/opt/provision/uv"


def test_the_uv_on_the_path_is_the_pinned_one(host: Host) -> None:
    said = host.check_output("uv --version")
    assert said.split()[1] == PIN.partition("==")[2], f"the lock says {PIN}, the host answers {said}"


def test_uv_resolves_from_the_declared_index(host: Host) -> None:
    """Without its cache: certificates, index and configuration all have to be right."""
    with host.sudo():
        found = host.run(f"cd / && echo {PIN} | {HOME}/bin/uv pip compile --no-cache --quiet --no-header -")
    assert found.succeeded, found.stderr
    assert PIN in found.stdout


def test_pip_downloads_from_the_declared_index(host: Host) -> None:
    """The pinned wheel once more, into a folder that is removed again."""
    fetch = f"{HOME}/bin/python -m pip download --quiet --no-cache-dir --no-deps --dest $folder {PIN}"
    with host.sudo():
        found = host.run(f"cd / && folder=$(mktemp -d) && {fetch}; code=$?; ls $folder; rm -r $folder; exit $code")
    assert found.succeeded, found.stderr
    assert found.stdout.startswith("uv-"), found.stdout


def test_only_root_can_change_uv(host: Host) -> None:
    found = host.check_output(f"find {HOME}/ ! -type l '(' ! -user root -o -perm /022 ')' -print -quit")
    assert found == "", f"{found} could be changed by somebody who is not root"

"""Names, folders and identities of targets, without a container."""

from __future__ import annotations

import ipaddress
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from provision import lab
from provision.errors import ProvisionError
from provision.lab import files, images, paths, podman


@pytest.mark.parametrize("name", ["demo", "a", "gpu-box-1", "x" * 31])
def test_a_plain_host_name_is_accepted(name: str) -> None:
    assert paths.check_name(name) == name


@pytest.mark.parametrize("name", ["", "-demo", "Demo", "1box", "a_b", "a.b", "../etc", "x" * 32, "demo\n", "de mo"])
def test_any_other_name_is_refused_before_anything_is_done(name: str) -> None:
    for verb in (lab.up, lab.down, lab.ssh_argv):
        with pytest.raises(ProvisionError) as caught:
            verb(name)
        assert caught.value.refusals[0].fact == "is not a valid name"


def test_ssh_to_a_target_that_is_not_there_names_the_next_command() -> None:
    with pytest.raises(ProvisionError) as caught:
        lab.ssh_argv("demo")
    assert str(caught.value) == "lab target demo does not exist"
    assert caught.value.refusals[0].hint == "bring it up: provision lab up demo"


def test_an_unknown_image_lists_those_there_are() -> None:
    with pytest.raises(ProvisionError) as caught:
        lab.up("demo", "debian-11")
    assert str(caught.value) == "lab image 'debian-11' does not exist"
    assert "debian-12, debian-12-bare, debian-13, ubuntu-20.04" in caught.value.refusals[0].hint


def test_state_is_private_and_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = paths.lab_id()
    assert paths.state_root() == tmp_path / "state/provision/lab"
    assert paths.state_root().stat().st_mode & 0o777 == 0o700
    assert paths.cache_root() == tmp_path / "cache/provision/lab"
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert paths.host_folder("demo") == tmp_path / "home/.local/state/provision/lab/hosts/demo"
    assert paths.lab_id() != first


def test_a_recipe_has_a_hash_that_its_layers_inherit(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: images.reference(image) for name, image in images.IMAGES.items()}
    assert len(set(before.values())) == len(before)
    assert before == {name: images.reference(image) for name, image in images.IMAGES.items()}
    monkeypatch.setattr(images, "PACKAGES", (*images.PACKAGES, "hello"))
    after = {name: images.reference(image) for name, image in images.IMAGES.items()}
    assert all(after[name] != before[name] for name in before)


def test_a_stand_in_says_so_and_is_a_layer_over_the_debian_root() -> None:
    standins = [image for image in images.IMAGES.values() if image.name.endswith("-standin")]
    assert {image.parent for image in standins} == {"debian-12"}
    for image in standins:
        assert 'PRETTY_NAME="Ubuntu' in image.script
        assert "stand-in by provision" in image.script
        assert "Debian" not in image.script  # Ansible would take the word in os-release for the distribution


def test_known_hosts_names_a_port_only_where_it_is_not_22(tmp_path: Path) -> None:
    key = files.make_key(tmp_path / "key", "demo")
    assert key.stat().st_mode & 0o777 == 0o600
    kind, public = files.public(key).read_text().split()[:2]
    assert files.known_hosts_line("10.0.0.7", 22, key) == f"10.0.0.7 {kind} {public}\n"
    assert files.known_hosts_line("127.0.0.1", 4022, key) == f"[127.0.0.1]:4022 {kind} {public}\n"


def test_a_target_gets_its_host_key_and_each_user_the_labs_key(tmp_path: Path) -> None:
    host_key, login_key = files.make_key(tmp_path / "host", "h"), files.make_key(tmp_path / "login", "l")
    with tarfile.open(fileobj=BytesIO(files.identity_archive(host_key, login_key))) as archive:
        members = {member.name: member for member in archive.getmembers()}
    assert (members["etc/ssh/ssh_host_ed25519_key"].mode, members["etc/ssh/ssh_host_ed25519_key"].uid) == (0o600, 0)
    for user, uid in files.USERS.items():
        keys = members[f"home/{user}/.ssh/authorized_keys"]
        assert (keys.mode, keys.uid, members[f"home/{user}/.ssh"].mode) == (0o600, uid, 0o700)


def test_a_secret_is_made_once_and_is_private() -> None:
    password = files.password_file()
    text = password.read_text()
    assert len(text.strip()) >= 20
    assert password.stat().st_mode & 0o777 == 0o600
    assert files.password_file().read_text() == text


def test_the_network_avoids_subnets_the_machine_routes_to() -> None:
    routes = [ipaddress.IPv4Network("10.231.2.0/24"), ipaddress.IPv4Network("10.128.0.0/9")]
    assert podman.free_subnet([]) == "10.231.0.0/22"
    assert podman.free_subnet(routes) == "10.99.0.0/22"
    with pytest.raises(ProvisionError, match="has routes into all of"):
        podman.free_subnet([ipaddress.IPv4Network("10.0.0.0/8")])

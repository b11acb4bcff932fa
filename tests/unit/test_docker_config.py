"""daemon.json is merged, never replaced; keys are known by fingerprint. Pure functions of the role docker."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from provision.content import load, playbooks_dir, roles_dir
from tests.standins.apt_repository import SigningKey

ROLE = roles_dir() / "docker"
config, host = (load(ROLE / "module_utils" / f"docker_{part}.py") for part in ("config", "host"))
openpgp = load(playbooks_dir() / "module_utils" / "provision_openpgp.py")


@pytest.mark.parametrize(
    ("found", "declared", "owned", "merged"),
    [
        pytest.param({}, {"live-restore": True}, [], {"live-restore": True}, id="a bare host"),
        pytest.param(
            {"debug": True}, {"live-restore": True}, [], {"debug": True, "live-restore": True}, id="foreign key"
        ),
        pytest.param(
            {"log-opts": {"tag": "x", "max-size": "1g"}},
            {"log-opts": {"max-size": "10m"}},
            [],
            {"log-opts": {"tag": "x", "max-size": "10m"}},
            id="foreign key inside an object",
        ),
        pytest.param({"bip": "a", "mtu": 1}, {}, [["mtu"]], {"bip": "a"}, id="ours and no longer declared"),
        pytest.param(
            {"runtimes": {"mine": {"path": "/m"}, "nvidia": {"path": "/n"}}},
            {},
            [["runtimes", "nvidia", "path"]],
            {"runtimes": {"mine": {"path": "/m"}}},
            id="ours inside an object of others",
        ),
        pytest.param({"log-opts": {"a": "1"}}, {}, [["log-opts", "a"]], {}, id="an object that becomes empty"),
        pytest.param({}, {}, [["gone"], ["log-opts", "gone"]], {}, id="ours, and somebody removed it"),
        pytest.param(
            {"log-opts": "odd"}, {}, [["log-opts", "a"]], {"log-opts": "odd"}, id="ours, now of another shape"
        ),
        pytest.param({"dns": ["a"]}, {"dns": ["b"]}, [["dns"]], {"dns": ["b"]}, id="lists are replaced"),
        pytest.param(
            {"log-driver": "journald", "log-opts": {"tag": "x"}},
            {"log-driver": "json-file", "log-opts": {"max-size": "10m"}},
            [],
            {"log-driver": "json-file", "log-opts": {"max-size": "10m"}},
            id="another driver's options go with it",
        ),
    ],
)
def test_merge(found: dict[str, Any], declared: dict[str, Any], owned: list[Any], merged: dict[str, Any]) -> None:
    assert config.merge(found, declared, owned) == merged
    again = config.merge(merged, declared, [list(path) for path in config.leaves(declared)])
    assert again == merged


def test_the_runtime_of_nvidia_goes_and_the_administrator_s_own_stays() -> None:
    found = {"runtimes": {"mine": {"path": "/m"}}, "features": {"buildkit": True}}
    declared = {"runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}}, "features": {"cdi": True}}
    merged = config.merge(found, declared, [])
    assert merged["runtimes"] == {**found["runtimes"], **declared["runtimes"]}
    assert config.merge(merged, {}, [list(path) for path in config.leaves(declared)]) == found


def test_log_options_become_texts() -> None:
    declared = {"log-opts": {"max-file": 3, "compress": True, "tag": "x"}, "mtu": 1400}
    assert config.with_texts(declared) == {"log-opts": {"max-file": "3", "compress": "true", "tag": "x"}, "mtu": 1400}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1,\n"b": }', "f line 2 column 6: Expecting value"),
        ("[]", "f line 1: an object is expected, this is a list"),
    ],
)
def test_a_broken_file_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        config.parse("f", text)


def test_an_empty_file_is_an_empty_object() -> None:
    assert config.parse("f", " \n") == {}


@pytest.mark.parametrize(
    ("words", "merged", "found"),
    [
        (["/usr/bin/dockerd", "-H", "fd://"], {"hosts": []}, [("hosts", "-H")]),
        (["dockerd", "--log-opt", "max-size=5m"], {"log-opts": {}}, [("log-opts", "--log-opt")]),
        (["dockerd", "--data-root=/x"], {"data-root": "/y"}, [("data-root", "--data-root")]),
        (["dockerd", "-g/x"], {"data-root": "/y"}, [("data-root", "-g/x")]),
        (["dockerd", "--add-runtime", "a=b"], {"runtimes": {}}, []),
        (["dockerd", "--debug"], {"log-driver": "x"}, []),
    ],
)
def test_flags_that_clash(words: list[str], merged: dict[str, Any], found: list[tuple[str, str]]) -> None:
    pairs = [(word, "unit") for word in words]
    assert config.conflicts(pairs, merged) == [(key, flag, "unit") for key, flag in found]


@pytest.mark.parametrize(
    ("driver", "options", "wanted"),
    [
        ("json-file", {"log-opts": {"max-size": "5m", "compress": True}},
         {"log-driver": "json-file", "log-opts": {"max-size": "5m", "max-file": "3", "compress": "true"}}),
        ("json-file", {"log-driver": "local"},
         {"log-driver": "local", "log-opts": {"max-size": "10m", "max-file": "3"}}),
        ("", {"mtu": 1400}, {"mtu": 1400}),
    ],
    ids=["an option of one's own", "a driver of one's own", "no driver"],
)  # fmt: skip
def test_the_proof_expects_what_the_role_writes(driver: str, options: dict[str, Any], wanted: dict[str, Any]) -> None:
    names = ("data_root", "storage_driver", "registry_mirrors", "default_address_pools")
    settings = {
        **{f"docker_{name}": "" for name in names},
        "docker_live_restore": True,
        "docker_nvidia": False,
        "docker_log_driver": driver,
        "docker_log_options": {"max-size": "10m", "max-file": 3},
        "docker_daemon_options": options,
    }
    assert load(ROLE / "verify" / "test_docker.py").declared(settings) == {"live-restore": True, **wanted}


def test_the_daemon_s_command_line_is_read_as_systemd_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    defaults = tmp_path / "default"
    defaults.write_text('# a comment\nDOCKER_OPTS="--dns 192.0.2.1 --debug"\n')
    (lib / "docker.service.d").mkdir(parents=True)
    (etc / "docker.service.d").mkdir(parents=True)
    unit = f"[Service]\nEnvironmentFile=-{defaults}\nExecStart=dockerd -H fd:// \\\n  $DOCKER_OPTS\n"
    (lib / "docker.service").write_text(unit)
    (lib / "docker.service.d" / "a.conf").write_text("[Service]\nExecStart=\nExecStart=dockerd --mtu 1\n")
    monkeypatch.setattr(host, "UNIT_DIRECTORIES", (str(etc), str(lib)))
    assert host.daemon_words() == [(word, str(lib / "docker.service.d/a.conf")) for word in ("dockerd", "--mtu", "1")]
    (etc / "docker.service.d" / "a.conf").write_text("[Service]\n")
    words = host.daemon_words()
    assert [word for word, _ in words] == ["dockerd", "-H", "fd://", "--dns", "192.0.2.1", "--debug"]
    assert words[-1][1] == str(defaults)


def test_fingerprints_agree_with_gpg() -> None:
    one, two = SigningKey("one"), SigningKey("two")
    armored = one.public.encode()
    binary = subprocess.run(["gpg", "--dearmor"], input=armored, capture_output=True, check=True, timeout=30).stdout
    assert openpgp.primary_fingerprints(armored) == openpgp.primary_fingerprints(binary) == [one.fingerprint]
    both = openpgp.primary_fingerprints(armored + two.public.encode())
    assert both == [one.fingerprint, two.fingerprint]
    assert openpgp.without(binary + openpgp.dearmor(two.public.encode()), {two.fingerprint}) == binary


@pytest.mark.parametrize(
    "data",
    [b"<html>not found</html>", b"", b"\x99\x01\x0d\x04short", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!!\n"
     b"-----END PGP PUBLIC KEY BLOCK-----\n"],
    ids=["a page", "nothing", "cut off", "damaged"],
)  # fmt: skip
def test_what_is_no_key_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^it (is|holds|has)"):
        openpgp.primary_fingerprints(data)

"""The controller's package configuration, read from a folder that stands for /etc and from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.lab import mirrors

DEBIAN = """\
Types: deb deb-src
# a comment between fields
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates trixie
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://old.example/debian
Suites: bookworm
Components: main
Enabled: no
"""
INLINE_KEY = """\
Types: deb
URIs: http://security.example
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEX
 -----END PGP PUBLIC KEY BLOCK-----
"""
ONE_LINE = """\
deb [arch=amd64 signed-by=/etc/apt/keyrings/a.gpg] http://mirror.example/debian bookworm-backports main # later
deb-src http://mirror.example/debian bookworm main
deb https://third.party.example/apt cloud-bookworm main
"""


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty /etc, no pip or uv settings, and a home without files."""
    for name in ("PIP_CERT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("UV_PYTHON_INSTALL_MIRROR", "HF_ENDPOINT", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(mirrors, "ETC", tmp_path / "etc")
    monkeypatch.setattr(mirrors.sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "etc/apt/sources.list.d").mkdir(parents=True)
    return tmp_path / "etc"


def test_a_machine_that_says_nothing_gives_nothing(etc: Path) -> None:
    assert mirrors.controller_mirrors() == {}


def test_only_enabled_sources_of_the_targets_release_are_taken(etc: Path) -> None:
    folder = etc / "apt/sources.list.d"
    (folder / "debian.sources").write_text(DEBIAN)
    (folder / "security.sources").write_text(INLINE_KEY)
    (folder / "more.list").write_text(ONE_LINE)
    (folder / "more.list.save").write_text("deb http://forgotten.example/debian bookworm main\n")
    assert mirrors.apt_sources("bookworm") == [
        {
            "types": ["deb"],
            "uris": ["http://mirror.example/debian"],
            "suites": ["bookworm", "bookworm-updates"],
            "components": ["main", "contrib"],
            "signed_by": "/usr/share/keyrings/debian-archive-keyring.gpg",
        },
        {
            "types": ["deb"],
            "uris": ["http://mirror.example/debian"],
            "suites": ["bookworm-backports"],
            "components": ["main"],
            "signed_by": "/etc/apt/keyrings/a.gpg",
        },
        {
            "types": ["deb"],
            "uris": ["http://security.example"],
            "suites": ["bookworm-security"],
            "components": ["main"],
        },
    ]
    assert mirrors.apt_sources("jammy") == []
    debian_13 = mirrors.apt_sources("trixie")
    assert [stanza["suites"] for stanza in debian_13] == [
        ["trixie", "trixie-updates"], ["trixie-backports"], ["trixie-security"]
    ]  # fmt: skip


def test_sources_can_be_written_in_one_line_each(etc: Path) -> None:
    (etc / "apt/sources.list").write_text(ONE_LINE)
    assert mirrors.one_line_sources(mirrors.apt_sources("bookworm")) == [
        "deb [signed-by=/etc/apt/keyrings/a.gpg] http://mirror.example/debian bookworm-backports main"
    ]


def test_pip_settings_are_combined_as_pip_does(etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (etc / "pip.conf").write_text("[global]\nindex-url = https://wide.example/simple\ncert = /nowhere.pem\n")
    user = tmp_path / "home/.config/pip/pip.conf"
    user.parent.mkdir(parents=True)
    user.write_text("[install]\nindex_url = https://near.example/simple\nfind-links = /a\n    /b\n")
    assert mirrors.python_index() == {"index": "https://near.example/simple", "find_links": ["/a", "/b"]}
    monkeypatch.setenv("PIP_INDEX_URL", "https://nearest.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://extra.example/simple file:///partial/simple")
    monkeypatch.setenv("UV_PYTHON_INSTALL_MIRROR", "https://pythons.example")
    assert mirrors.python_index() == {
        "index": "https://nearest.example/simple",
        "extra_indexes": ["https://extra.example/simple"],
        "find_links": ["/a", "/b"],
        "interpreters": "https://pythons.example",
    }


def test_a_broken_pip_file_is_passed_over(etc: Path) -> None:
    (etc / "pip.conf").write_text("index-url = no section\n")
    assert mirrors.python_index() == {}


def test_the_ca_bundle_is_the_first_that_exists(etc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    monkeypatch.setenv("PIP_CERT", str(tmp_path / "gone.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    monkeypatch.setenv("HF_ENDPOINT", "https://models.example")
    assert mirrors.controller_mirrors() == {"ca_bundle": str(bundle), "huggingface": "https://models.example"}


def test_folders_among_the_mirrors_are_those_a_target_must_see(tmp_path: Path) -> None:
    for name in ("wheels", "index/simple", "index/files"):
        (tmp_path / name).mkdir(parents=True)
    settings = {
        "python": {
            "index": f"file://{tmp_path}/index/simple",
            "find_links": [str(tmp_path / "wheels"), str(tmp_path / "missing"), "https://wheels.example", "/"],
        }
    }
    assert mirrors.folders(settings) == [str(tmp_path / name) for name in ("index/files", "index/simple", "wheels")]
    assert mirrors.folders({}) == []

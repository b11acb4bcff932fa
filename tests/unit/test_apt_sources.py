"""What rivals a third party's repository, and what a toolkit is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.content import load, playbooks_dir, roles_dir

apt = load(playbooks_dir() / "module_utils" / "provision_apt.py")
cuda = load(roles_dir() / "cuda" / "library" / "cuda_look.py")

OWN = "https://apt.example.com/repos/ubuntu2204/x86_64"
ONE_LINE = f"""\
# deb {OWN} /
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://apt.example.com/repos/ubuntu2204/x86_64/ /
deb-src {OWN} /
"""
STANZAS = f"""\
Types: deb
URIs: https://other.example.com/debian
Suites: bookworm

# switched off
Enabled: no
URIs: {OWN}
Suites: /

Types: deb
URIs:
 https://third.example.com/debian
 {OWN}/
Suites: /
"""


def test_addresses_of_a_one_line_file() -> None:
    assert [address for _, addresses in apt.one_line_entries(ONE_LINE) for address in addresses] == [
        "http://apt.example.com/repos/ubuntu2204/x86_64/", OWN
    ]  # fmt: skip


def test_addresses_of_the_stanzas_that_are_in_force() -> None:
    assert [addresses for _, addresses in apt.stanza_entries(STANZAS)] == [
        ["https://other.example.com/debian"], ["https://third.example.com/debian", f"{OWN}/"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("address", "prefix", "inside"),
    [
        (f"{OWN}/", OWN, True),
        ("http://apt.example.com/repos/ubuntu2404/x86_64", "https://apt.example.com/repos/", True),
        ("https://apt.example.com/repos-of-others", "https://apt.example.com/repos", False),
        ("https://mirror.example.com/repos", "https://apt.example.com/repos", False),
    ],
)
def test_an_archive_is_known_by_its_address_whatever_the_scheme(address: str, prefix: str, inside: bool) -> None:
    assert apt.below(address, [prefix]) is inside


def test_files_wholly_about_an_archive_go_and_mixed_ones_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "SOURCES", str(tmp_path / "sources.list"))
    monkeypatch.setattr(apt, "PARTS", str(tmp_path / "sources.list.d"))
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text(f"deb {OWN} /\n")
    (parts / "old.list").write_text(ONE_LINE)
    (parts / "mixed.sources").write_text(STANZAS)
    (parts / "other.list").write_text("deb https://other.example.com/debian bookworm main\n")
    own = parts / "own.sources"
    own.write_text(f"Types: deb\nURIs: {OWN}\nSuites: /\n")
    wholly, mixed = apt.rival_sources([OWN], str(own))
    assert wholly == [str(parts / "old.list")]
    assert [(Path(path).name, line) for path, line in mixed] == [
        ("sources.list", f"deb {OWN} /"),
        ("mixed.sources", f"URIs:  https://third.example.com/debian {OWN}/".replace("  ", " ")),
    ]


def test_a_toolkit_is_what_it_needs_of_nvidia_s_and_nothing_of_the_distribution_s() -> None:
    have = {
        "cuda-toolkit-13-0": ("13.0.2-1", ["cuda-nvcc-13-0", "nsight-compute-2025.3.1", "missing-13-0"]),
        "cuda-nvcc-13-0": ("13.0.88-1", ["build-essential", "cuda-toolkit-config-common"]),
        "nsight-compute-2025.3.1": ("2025.3.1.4-1", []),
        "cuda-toolkit-config-common": ("13.0.96-1", []),
        "build-essential": ("12.9", ["gcc"]),
        "cuda-nvcc-12-9": ("12.9.86-1", []),
    }
    assert cuda.closure(have, ["cuda-toolkit-13-0", "cuda-toolkit-13-1"]) == {
        "cuda-toolkit-13-0": "13.0.2-1",
        "cuda-nvcc-13-0": "13.0.88-1",
        "nsight-compute-2025.3.1": "2025.3.1.4-1",
        "cuda-toolkit-config-common": "13.0.96-1",
    }

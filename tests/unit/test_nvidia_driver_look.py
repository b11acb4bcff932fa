"""What stands in a driver's way: found on the host, named with its file, and repaired or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.nvidia_driver_parts import RELEASE, Box, Ended, host, library, state

look = library("nvidia_driver_look")
WISH = {
    "source": "debian",
    "branch": "535",
    "version": "",
    "modules": "open",
    "display": False,
    "fabric_manager": False,
}


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    box = Box(tmp_path, monkeypatch)
    monkeypatch.setattr(look, "AnsibleModule", lambda **_: box)
    monkeypatch.setattr(host, "RUNFILE", str(tmp_path / "nvidia-uninstall"))
    monkeypatch.setattr(host, "KEY_FOLDERS", (str(tmp_path / "keys" / "*"),))
    monkeypatch.setattr(look, "source_files", lambda: sorted(map(str, (tmp_path / "sources").glob("*"))))
    box.params = {
        "wish": WISH, "dkms": True, "mok_enrolled": False, "upgrade": False,
        "own_source": str(tmp_path / "sources" / "ours.sources"),
    }  # fmt: skip
    box.installed({})
    box.answers["dpkg-query --search"] = (1, "", "no path found")
    return box


def found() -> dict[str, Any]:
    with pytest.raises(Ended) as ended:
        look.main()
    assert not ended.value.failed
    return ended.value.result


def test_a_bare_host_has_nothing_in_the_way(box: Box) -> None:
    result = found()
    assert (result["refusals"], result["leftovers"], result["settle"]) == ([], [], False)
    assert result["move"] == "no driver is locked on this host yet"


def test_a_runfile_driver_is_refused_with_the_command_that_removes_it(box: Box) -> None:
    runfile = box.write("nvidia-uninstall", "")
    refusal = "".join(found()["refusals"])
    assert str(runfile) in refusal
    assert "sudo nvidia-uninstall --silent" in refusal


def test_libraries_that_no_package_owns_are_refused_by_name(box: Box) -> None:
    library_file = box.write("lib/libcuda.so.580.1.1", "")
    (box.root / "lib" / "libcuda.so.1").symlink_to(library_file.name)
    refusals = found()["refusals"]
    assert len(refusals) == 1
    assert f"instead of the packaged ones: {library_file}. Find out" in refusals[0]
    box.answers["dpkg-query --search"] = (0, "libcuda1: ...", "")
    assert found()["refusals"] == []


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        (f"modules/{RELEASE}/kernel/drivers/video/nvidia.ko", True),
        (f"modules/{RELEASE}/updates/nvidia.ko.zst", True),
        (f"modules/{RELEASE}/updates/dkms/nvidia-current.ko", False),
        (f"modules/{RELEASE}/kernel/nvidia-580srv-open/nvidia.ko", False),
    ],
)
def test_modules_that_nobody_answers_for_are_refused_by_name(box: Box, path: str, refused: bool) -> None:
    file = box.write(path, "")
    assert [str(file) in refusal for refusal in found()["refusals"]] == [True] * refused


def test_two_keys_for_one_archive_are_refused_with_the_files_that_name_it(box: Box) -> None:
    box.write("sources/cuda.list", "deb [signed-by=/a] https://x.test/cuda/ /\n")
    box.write("sources/other.sources", "Types: deb\nURIs: https://y.test/\n")
    said = "E: Conflicting values set for option Signed-By regarding source https://x.test/cuda/ /: /a != /b\n"
    box.answers["apt-get indextargets"] = (100, "", said + "E: The list of sources could not be read.\n")
    refusals = found()["refusals"]
    assert len(refusals) == 1
    assert f"These files name it: {box.root}/sources/cuda.list. Keep one" in refusals[0]


def test_secure_boot_refuses_what_dkms_builds_until_its_key_is_enrolled(box: Box) -> None:
    box.write("sys/firmware/efi/efivars/SecureBoot-8be4", "\x07\x00\x00\x00\x01")
    assert "mokutil --import" in "".join(found()["refusals"])
    for settings in ({"mok_enrolled": True}, {"dkms": False}):
        box.params = {**box.params, "dkms": True, "mok_enrolled": False, **settings}
        assert found()["refusals"] == []


def test_a_keyring_with_nothing_but_the_retired_key_goes_and_a_shared_one_stays(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"cuda.gpg": [look.RETIRED], "both.gpg": [look.RETIRED, "A" * 40], "other.gpg": ["A" * 40]}
    for name in keys:
        box.write(f"keys/{name}", name)
    box.write("keys/README", "no key")

    def fingerprints(data: bytes) -> list[str]:
        if data.decode() not in keys:
            raise ValueError("it holds no OpenPGP public key")
        return keys[data.decode()]

    monkeypatch.setattr(look, "primary_fingerprints", fingerprints)
    result = found()
    assert result["leftovers"] == [str(box.root / "keys" / "cuda.gpg")]
    assert [warning.split(" holds ")[0] for warning in box.warnings] == [str(box.root / "keys" / "both.gpg")]


@pytest.mark.parametrize(("boot", "settle"), [("first", False), ("second", True)])
def test_a_reboot_that_happened_since_is_to_be_judged(box: Box, boot: str, settle: bool) -> None:
    state.note(stage="awaiting-reboot", to="x", previous=None, boot_id="first")
    box.boot(boot)
    assert found()["settle"] is settle


def test_components_are_those_of_this_release_in_files_of_others(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    release = box.write("os-release", "ID=debian\nVERSION_CODENAME=bookworm\n")
    monkeypatch.setattr(look, "OS_RELEASE", str(release))
    box.write("sources/a.list", "# deb http://x bookworm non-free\ndeb [arch=amd64] http://x bookworm main contrib\n")
    box.write("sources/b.sources", "Types: deb\nURIs: http://x\nSuites: trixie\nComponents: games\n\n"
              "Types: deb deb-src\nURIs: http://x\nSuites: bookworm bookworm-updates\nComponents: main non-free\n\n"
              "Enabled: no\nTypes: deb\nURIs: http://x\nSuites: bookworm\nComponents: non-free-firmware\n\n"
              "Types: deb\nURIs: http://x\nSuites:\n trixie\n bookworm\nComponents: local\n")  # fmt: skip
    box.write("sources/ours.sources", "Types: deb\nURIs: http://x\nSuites: bookworm\nComponents: contrib games\n")
    assert found()["components"] == ["contrib", "local", "main", "non-free"]

"""Planning from a file: what it may hold, whose names count; and no connection, no history, no slow import."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from report_cases import SCHEMA

from provision.catalog import load_catalog
from provision.errors import ProvisionError
from provision.hardware_file import LIMIT_BYTES, read_hardware
from provision.lspci import parse

LSPCI = Path(__file__).parents[1] / "cases" / "lspci" / "two-4090-and-intel" / "lspci.txt"
PLAN = ("plan", "--tier", "workstation", "--hardware")
SLOW = {"ansible", "ansible_runner", "paramiko", "rich", "testinfra", "pytest"}

# What a user may write by hand: every field that has a default is left out.
BY_HAND = {
    "os": {"id": "ubuntu", "version": "22.04", "codename": "jammy", "architecture": "x86_64"},
    "cpu": {"model": "AMD EPYC 7302", "sockets": 2, "cores": 32, "threads": 64},
    "memory_bytes": 540958720000,
    "gpus": [{"pci_id": "10de:2684", "address": "0000:41:00.0", "name": "AD102 [GeForce RTX 4090]"}],
}


def provision(*argv: str | Path, home: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """A call with an `ssh` that cannot be found, and with a state home of its own."""
    code = f"""
import sys
from provision.__main__ import main
try:
    main()
finally:
    print(sorted({SLOW!r} & set(sys.modules)), file=sys.stderr)
"""
    environment = {**os.environ, "PATH": str(home), "XDG_STATE_HOME": str(home / "state")}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, argv)], input=given, capture_output=True, text=True,
        env=environment, timeout=60, check=False,
    )  # fmt: skip


def test_lspci_text_becomes_a_plan_document(tmp_path: Path) -> None:
    done = provision(*PLAN, LSPCI, "--os", "ubuntu-22.04", "--output", "json", home=tmp_path)
    document = json.loads(done.stdout)
    Draft202012Validator(SCHEMA).validate(document)
    (host,) = document["hosts"]
    plan = host["plan"]
    driver = {"branch": "580", "modules": "open", "source": "ubuntu", "prebuilt": True, "fabric_manager": False}
    assert plan["driver"] == driver
    assert [card["product"] for card in plan["cards"]] == ["GeForce RTX 4090"] * 2
    assert (plan["cuda"], plan["frameworks"]["torch_backend"]) == (["13.0"], "cu130")
    assert plan["frameworks"]["python"]
    assert {"nvidia_driver_branch", "nvidia_driver_modules"} <= {reason["subject"] for reason in plan["reasons"]}
    assert (document["run"], document["started"], done.returncode) == (None, None, 0)


def test_nothing_that_is_slow_is_imported_and_nothing_is_kept(tmp_path: Path) -> None:
    done = provision(*PLAN, LSPCI, "--os", "ubuntu-22.04", home=tmp_path)
    assert done.stderr == "[]\n"
    assert not (tmp_path / "state").exists()


def test_what_lspci_does_not_tell_is_not_called_less_than_documented(tmp_path: Path) -> None:
    shown = provision(*PLAN, LSPCI, "--os", "ubuntu-22.04", home=tmp_path).stdout
    assert "warning: not known and so not judged: the CPU, memory, network, disks, Secure Boot\n" in shown
    assert "less than documented" not in shown
    assert "threads" not in shown


def test_a_gpu_that_is_less_than_documented_is_told(tmp_path: Path) -> None:
    line = (
        "01:00.0 VGA compatible controller [0300]: NVIDIA Corporation GA106 [GeForce RTX 3060] [10de:2503] (rev a1)\n"
    )
    shown = provision(*PLAN, "-", "--os", "ubuntu-22.04", "box7", home=tmp_path, given=line).stdout
    assert "box7  planned" in shown
    assert "less than documented: GPU: " in shown


@pytest.mark.parametrize("pci_id", ["10de:1df6", "10de:2321"], ids=["V100S", "H100 NVL, which pci.ids calls H100L"])
def test_a_variant_of_a_documented_card_is_not_less(tmp_path: Path, pci_id: str) -> None:
    lines = [f"0{slot}:00.0 3D controller [0302]: NVIDIA Corporation Device [{pci_id}] (rev a1)\n" for slot in (1, 2)]
    words = ("plan", "--tier", "datacenter", "--hardware", "-", "--os", "ubuntu-22.04")
    assert "less than documented" not in provision(*words, home=tmp_path, given="".join(lines)).stdout


def test_only_frameworks_that_are_installed_are_named(tmp_path: Path) -> None:
    def torch(tier: str) -> str:
        shown = provision("plan", "--tier", tier, "--hardware", LSPCI, "--os", "ubuntu-22.04", home=tmp_path).stdout
        return next(line for line in shown.splitlines() if line.startswith("  torch "))

    assert torch("workstation") == "  torch   cu130; Python system"
    assert torch("datacenter") == "  torch   cu130; TensorFlow cuda12; Python system"


def test_a_tier_without_a_role_is_told_what_it_then_lacks(tmp_path: Path) -> None:
    (tmp_path / "own.yml").write_text("extends: workstation\nroles: [base, nvidia_driver, docker]\n")
    words = ("plan", "--tier", tmp_path / "own.yml", "--hardware", LSPCI, "--os")
    shown = provision(*words, "debian-12", home=tmp_path).stdout
    assert "warning: the tier has no role cuda_repository: set NVIDIA's CUDA repository up yourself\n" in shown
    assert "  CUDA " not in shown
    assert "cuda_repository" not in provision(*words, "ubuntu-22.04", home=tmp_path).stdout


def test_a_report_is_planned_again_host_by_host(tmp_path: Path) -> None:
    first = provision(*PLAN, LSPCI, "--os", "debian-12", "gpu1", "--output", "json", home=tmp_path).stdout
    report = json.loads(first)
    report["hosts"].append({**report["hosts"][0], "host": "gpu2"})
    (tmp_path / "report.json").write_text(json.dumps(report))
    again = provision(*PLAN, tmp_path / "report.json", "--output", "json", home=tmp_path)
    hosts = json.loads(again.stdout)["hosts"]
    assert [host["host"] for host in hosts] == ["gpu1", "gpu2"]
    assert hosts[0] == json.loads(first)["hosts"][0]
    one = provision(*PLAN, tmp_path / "report.json", "gpu2", "--output", "json", home=tmp_path)
    assert [host["host"] for host in json.loads(one.stdout)["hosts"]] == ["gpu2"]


def test_next_steps_lead_to_the_box(tmp_path: Path) -> None:
    words = (*PLAN, LSPCI, "--os=ubuntu-22.04", "--assume-gpu", "RTX 3080")
    assert "\n  make it so: provision apply --tier workstation --assume-gpu 'RTX 3080' HOST\n" in provision(
        *words, home=tmp_path
    ).stdout  # fmt: skip
    assert "\n  make it so: provision apply --tier workstation --assume-gpu 'RTX 3080' gpu1\n" in provision(
        *words, "gpu1", home=tmp_path
    ).stdout  # fmt: skip
    assert "\n  make it so: provision apply --tier workstation admin@gpu1:2222\n" in provision(
        *PLAN, LSPCI, "--os=ubuntu-22.04", "admin@gpu1:2222", home=tmp_path
    ).stdout  # fmt: skip


def test_a_file_that_is_called_like_the_tier_names_no_host(tmp_path: Path) -> None:
    (tmp_path / "workstation.txt").write_text(Path(LSPCI).read_text())
    shown = provision(*PLAN, tmp_path / "workstation.txt", "--os", "ubuntu-22.04", home=tmp_path).stdout
    assert "\n  make it so: provision apply --tier workstation HOST\n" in shown


def test_an_assumed_card_is_called_one(tmp_path: Path) -> None:
    line = "01:00.0 VGA compatible controller [0300]: NVIDIA Corporation Device [10de:ffff] (rev a1)\n"
    words = (*PLAN, "-", "--os", "ubuntu-22.04")
    refused = provision(*words, home=tmp_path, given=line)
    assert refused.returncode == 2
    assert "10de:ffff" in refused.stdout
    shown = provision(*words, "--assume-gpu", "GeForce-RTX-3080", home=tmp_path, given=line).stdout
    assert "cards   GeForce RTX 3080 (Ampere, 8.6, 10 GiB, assumed)\n" in shown


def test_hardware_by_hand_leaves_out_what_has_a_default(tmp_path: Path) -> None:
    (tmp_path / "rack4.json").write_text(json.dumps(BY_HAND))
    found = read_hardware(str(tmp_path / "rack4.json"), None, load_catalog())
    assert list(found.boxes) == ["rack4"]
    assert found.boxes["rack4"].gpus[0].driver is None
    assert found.boxes["rack4"].unknown == ()


def test_an_operating_system_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "box.json"
    file.write_text(json.dumps(BY_HAND))
    assert read_hardware(str(file), "Ubuntu-22.04", load_catalog()).boxes
    with pytest.raises(ProvisionError, match=r"--os debian-12 contradicts .*box\.json, which says ubuntu-22\.04"):
        read_hardware(str(file), "debian-12", load_catalog())


def test_a_host_without_hardware_is_only_left_out_on_purpose(tmp_path: Path) -> None:
    hosts = [{"host": "gpu1", "hardware": BY_HAND}, {"host": "gpu2", "hardware": None}]
    (tmp_path / "r.json").write_text(json.dumps({"schema": "provision/report/1", "hosts": hosts}))
    found = read_hardware(str(tmp_path / "r.json"), None, load_catalog())
    assert list(found.choose(["gpu1"])) == ["gpu1"]
    with pytest.raises(ProvisionError) as caught:
        found.choose([])
    assert str(caught.value) == "host gpu2 was not looked at for this file"
    with pytest.raises(ProvisionError, match="host gpu3 is not in the hardware file"):
        found.choose(["gpu1", "gpu3"])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_text_as_other_systems_write_it(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "box.txt"
    file.write_bytes(LSPCI.read_text(encoding="utf-8").replace("\n", "\r\n").encode(encoding))
    assert len(read_hardware(str(file), "debian-12", load_catalog()).boxes["box"].gpus) == 3


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(50 * 10**6)
    with pytest.raises(ProvisionError, match=f"huge is larger than {LIMIT_BYTES // 2**20} MiB"):
        read_hardware(str(tmp_path / "huge"), "debian-12", load_catalog())


def test_many_devices_are_read_in_no_time(tmp_path: Path) -> None:
    line = "01:00.0 VGA compatible controller [0300]: NVIDIA Corporation AD102 [10de:2684] (rev a1)\n"
    (tmp_path / "boxes.txt").write_text(line * 100_000)
    started = time.perf_counter()
    with pytest.raises(ProvisionError) as caught:
        read_hardware(str(tmp_path / "boxes.txt"), "debian-12", load_catalog())
    assert len(caught.value.refusals) == 1
    assert time.perf_counter() - started < 20


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_given: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)  # root may read everything, and tests may be root's
    with pytest.raises(ProvisionError) as caught:
        read_hardware("box.txt", "debian-12", load_catalog())
    assert str(caught.value) == "box.txt cannot be read: Permission denied"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"memory_bytes": ' + "9" * 5000 + "}"], ids=["deep", "long number"])
def test_json_that_python_cannot_hold_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "box.json").write_text(text)
    with pytest.raises(ProvisionError, match=r"box\.json is no document of hardware"):
        read_hardware(str(tmp_path / "box.json"), None, load_catalog())


def test_standard_input_is_not_waited_for_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    with pytest.raises(ProvisionError, match="--hardware - reads standard input, and that is a terminal"):
        read_hardware("-", "debian-12", load_catalog())


def test_a_card_without_a_name_is_the_one_its_number_says(tmp_path: Path) -> None:
    words = (*PLAN, "-", "--os", "debian-12")
    shown = provision(*words, home=tmp_path, given="01:00.0 0300: 10de:2206 (rev a1)\n").stdout
    assert "cards   GeForce RTX 3080 (Ampere, 8.6, 10 GiB)\n" in shown
    assert "less than documented" not in shown


@settings(deadline=None)
@given(st.text() | st.lists(st.sampled_from(LSPCI.read_text(encoding="utf-8").splitlines())).map("\n".join))
def test_no_text_breaks_the_reader(text: str) -> None:
    with contextlib.suppress(ProvisionError):
        gpus, _ = parse(text, "it")
        assert gpus


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*BY_HAND, "hosts", "x"]), inner),
    max_leaves=8,
)
SPOILT = st.dictionaries(st.sampled_from([*BY_HAND, "hosts", "schema", "nics", "unknown"]), JSON).map(BY_HAND.__or__)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SPOILT | JSON)
def test_no_json_breaks_the_reader(tmp_path: Path, document: object) -> None:
    (tmp_path / "box.json").write_text(json.dumps(document))
    with contextlib.suppress(ProvisionError):
        assert read_hardware(str(tmp_path / "box.json"), None, load_catalog()).boxes

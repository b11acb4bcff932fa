"""Plain ansible-playbook is the same product: the same plan, the same refusals, the same proof."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provision.catalog import load_catalog, load_tier
from provision.codec import from_data, to_data
from provision.model import Hardware
from provision.resolve import resolve
from tests.integration.conftest import Target, provision

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def playbook(name: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one of the project's playbooks as an AWX or a person without the command line would."""
    command = [str(BIN / "ansible-playbook"), f"playbooks/{name}.yml", *map(str, words)]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    return subprocess.run(
        command, cwd=ROOT, env={**clean, "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True,
        timeout=900, check=False,
    )  # fmt: skip


def result(output: str, task: str) -> dict[str, Any]:
    """What a task returned, from the output of a run with -v."""
    found = re.search(
        rf"^TASK \[{re.escape(task)}\].*?\n(?:.*\n)*?(?:ok|fatal|changed): \[[^]]*\].*? => ", output, re.MULTILINE
    )
    assert found, output
    value, _ = json.JSONDecoder().raw_decode(output[found.end() :])
    return dict(value)


# -- input only: these connect to nothing ----------------------------------------------------------------------------


def test_validate_tells_all_faults_at_once(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("all: {hosts: {box.invalid: {docker_users: ana, tier: budget}}}\n")
    wrong = '{"docker_source": "dokcer", "mirrors": {"hugingface": ""}}'
    done = playbook("validate", "-i", tmp_path / "hosts.yml", "-e", wrong, "-v")
    assert done.returncode == 2, done.stdout
    assert result(done.stdout, "Judge the input")["msg"].splitlines() == [
        'inventory box.invalid docker_users must be a list, not text: "ana"; write it as [one, other]',
        '--set docker_source must not be "dokcer"; did you mean docker? otherwise use auto, docker, distribution',
        "--set mirrors.hugingface is not known here; did you mean huggingface? "
        "otherwise use ca_bundle, apt, docker, python, nvidia, huggingface",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "tier is not set; add -e tier=NAME; provision tiers lists them"),
        (
            ["-e", "tier=budgt"],
            "tier budgt is not known; there are budget, datacenter, studio, workstation; "
            "did you mean budget? otherwise run: provision tiers",
        ),
        (
            ["-e", "tier=budget", "-e", "provision_only=dcker"],
            "--only dcker is no role of the tier budget; "
            "did you mean docker? otherwise use base, storage, network, kernel_tuning, cuda_repository, nvidia_driver, "
            "cuda, nvidia_container_toolkit, docker, gpu_power, cooling, uv, python_ml, model_cache",
        ),
        (
            ["-e", "tier=budget", "-e", "provision_assume_gpu=xyzzy"],
            "--assume-gpu xyzzy is no product that the catalogue knows; write it as pci.ids does: GeForce RTX 3080",
        ),
    ],
)
def test_validate_refuses(words: list[str], said: str) -> None:
    done = playbook("validate", "-i", "box.invalid,", "-v", *words)
    assert done.returncode == 2, done.stdout
    assert result(done.stdout, "Judge the input")["msg"] == said


def test_a_template_that_cannot_be_evaluated_is_told_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text(
        "all: {hosts: {box.invalid: {name: ana, docker_users: ['{{ name }}'], docker_version: '{{ nobody_said }}'}}}\n"
    )
    done = playbook("validate", "-i", tmp_path / "hosts.yml", "-e", "tier=budget", "-v")
    assert result(done.stdout, "Judge the input")["msg"] == (
        "inventory docker_version cannot be evaluated: 'nobody_said' is undefined; write the value itself"
    )


def test_validate_is_content_with_the_example_fleet() -> None:
    done = playbook("validate", "-i", "inventories/example/hosts.yml")
    assert done.returncode == 0, done.stdout


EVIL = "{{ lookup('pipe', 'id') }}"
PLAY = """\
- hosts: all
  gather_facts: false
  tasks:
    - provision_plan:
      register: planned
    - set_fact:
      args: "{{ planned.facts }}"
    - debug:
        msg: "{{ [docker_log_options, provision_plan.reasons[0].choice, ansible_facts.distribution_release] }}"
"""


def test_nothing_that_a_plan_quotes_is_evaluated_on_the_controller(tmp_path: Path) -> None:
    """A host names its own GPUs; a name that is a template must stay a name."""
    case = ROOT / "tests" / "cases" / "resolve" / "budget_as_documented" / "hardware.json"
    hardware = from_data(Hardware, json.loads(case.read_text(encoding="utf-8")), "case")
    hardware = replace(hardware, os=replace(hardware.os, kernel=EVIL, codename=EVIL))
    sets = {"docker_log_options": {"tag": "{{.Name}}"}}
    plan = to_data(resolve("box", hardware, load_tier("budget"), [("--set", sets)], load_catalog()))
    plan["reasons"][0]["choice"] = EVIL
    (tmp_path / "plans.json").write_text(json.dumps({"all": {"hosts": {"box": {"provision_plan": plan}}}}))
    (tmp_path / "play.yml").write_text(PLAY)
    done = subprocess.run(
        [str(BIN / "ansible-playbook"), "-i", str(tmp_path / "plans.json"), str(tmp_path / "play.yml"), "-v"],
        env={**os.environ, "ANSIBLE_ACTION_PLUGINS": str(ROOT / "playbooks" / "action_plugins")},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert result(done.stdout, "debug")["msg"] == [{"tag": "{{.Name}}"}, EVIL, EVIL]


# -- on a target -----------------------------------------------------------------------------------------------------

SETTINGS = {
    "docker_log_driver": "journald",
    "base_time_servers": ["192.0.2.1"],
    "mirrors": {"huggingface": "https://hub.example"},
}


@pytest.fixture(scope="module")
def target(new_target: Callable[..., Target]) -> Target:
    return new_target("plain")


def gathered(target: Target, names: Iterable[str]) -> dict[str, str]:
    """These facts as Ansible's own module gathers them; a point release is no part of ours."""
    done = subprocess.run(
        [str(BIN / "ansible"), target.name, *target.options()[:2], "-m", "ansible.builtin.setup"],
        env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "minimal", "ANSIBLE_NOCOLOR": "1"},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    facts = json.loads(done.stdout.partition("=>")[2])["ansible_facts"]
    facts["ansible_distribution_version"] = facts["ansible_distribution_version"].partition(".")[0]
    return {name: facts[f"ansible_{name}"] for name in names}


@pytest.mark.lab
def test_plain_ansible_gives_the_same_plan_as_the_command_line(target: Target) -> None:
    cli = [f"--set={name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in SETTINGS.items()]
    planned = provision("plan", "--tier", "budget", *target.options(), *cli, "--only", "uv", "--output", "json")
    assert planned.code == 0, planned.err
    # An extra variable replaces a mapping, where --set goes into it: so the rest of the target's mirrors is named too.
    inventory = json.loads(
        subprocess.run(
            [str(BIN / "ansible-inventory"), "-i", target.host.inventory, "--host", target.name],
            capture_output=True, text=True, check=True,
        ).stdout
    )  # fmt: skip
    extra = {**SETTINGS, "mirrors": {**inventory["mirrors"], **SETTINGS["mirrors"]}, "tier": "budget"}
    done = playbook("site", *target.options(), "-e", json.dumps(extra), "-e", "provision_only=uv", "--check", "-v")
    assert done.returncode == 0, done.stdout
    decided = result(done.stdout, "Decide what the host becomes")
    assert decided["ansible_facts"] == gathered(target, decided["ansible_facts"])
    plain = decided["facts"]["provision_plan"]
    told = planned.host(target.name)["plan"]
    for plan in (plain, told):
        plan.pop("reasons")  # the layer a mirror came from differs with how it was given
    assert plain == told


@pytest.mark.lab
def test_a_shortfall_needs_a_word_before_anything_is_applied(target: Target) -> None:
    done = playbook("site", *target.options(), "-e", "tier=budget", "-v")
    assert done.returncode == 2, done.stdout
    said = result(done.stdout, "Decide what the host becomes")["msg"].splitlines()
    assert said[0] == (
        f"{target.name} GPU is none; budget documents 1x RTX 3080 or RTX 3070; "
        "add -e provision_accept_hardware=true to apply all the same"
    )
    assert "TASK [Apply the roles]" not in done.stdout


@pytest.mark.lab
def test_plain_ansible_applies_proves_and_changes_nothing_the_second_time(target: Target) -> None:
    words = (*target.options(), "-e", "tier=budget", "-e", "provision_only=base,uv")
    first = playbook("site", *words, "-e", "provision_accept_hardware=true")
    assert first.returncode == 0, first.stdout
    second = playbook("site", *words, "-e", "provision_accept_hardware=true")
    assert second.returncode == 0, second.stdout
    assert re.search(rf"^{target.name}\s.* changed=0 .* failed=0 ", second.stdout, re.MULTILINE)
    proved = playbook("verify", *words)
    assert proved.returncode == 0, proved.stdout
    target.sh("rm /usr/local/bin/uv")
    broken = playbook("verify", *words, "-v")
    assert broken.returncode == 2, broken.stdout
    assert "test_the_uv_on_the_path_is_the_pinned_one" in broken.stdout


@pytest.mark.lab
def test_plain_ansible_brings_python_to_a_box_without_it(new_target: Callable[..., Target]) -> None:
    bare = new_target("plain-bare", "debian-12-bare")
    assert bare.sh("command -v python3 || echo none").strip() == "none"
    done = playbook(
        "site",
        *bare.options(),
        "-e",
        "tier=budget",
        "-e",
        "provision_only=base",
        "-e",
        "provision_accept_hardware=true",
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.lab
def test_probe_shows_the_hardware(target: Target) -> None:
    done = playbook("probe", *target.options())
    assert done.returncode == 0, done.stdout
    assert result(done.stdout, "Show it")["probed.hardware"]["os"]["id"] == "debian"

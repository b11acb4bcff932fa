"""NVIDIA's driver: one closure of exact versions that nothing moves, and in force where a card is there to show it."""

import json
import re

import pytest

from provision import nvidia_smi
from provision.content import load, playbooks_dir

ROOT = "/var/lib/provision/nvidia_driver"


def output(host, command):
    """Standard output of a command that must succeed, as root."""
    with host.sudo():
        return host.check_output(command)


def listing(host, form):
    """dpkg's rows of all packages, each `name` with what `form` tells; foreign architectures as `name:i386`."""
    native = output(host, "dpkg --print-architecture").strip()
    rows = output(host, f"dpkg-query --show --showformat '${{Package}}|${{Architecture}}|{form}\\n'").splitlines()
    for name, architecture, *rest in (row.split("|") for row in rows):
        yield name if architecture in (native, "all") else f"{name}:{architecture}", rest


def moved(host, command):
    """Packages that apt would install anew or remove."""
    return set(re.findall(r"^(?:Inst|Remv) (\S+)", output(host, command), re.MULTILINE))


@pytest.fixture
def closure(host):
    return json.loads(output(host, f"cat {ROOT}/closure.json"))


@pytest.fixture
def packages(closure):
    return closure["packages"]


def test_the_closure_is_the_planned_driver(host, plan, closure):
    assert output(host, f"cat {ROOT}/journal.json")
    wish = {key: plan.settings[f"nvidia_driver_{key}"] for key in ("source", "branch", "modules", "fabric_manager")}
    assert {key: closure["wish"][key] for key in wish} == wish
    assert closure["version"].split(".")[0] == plan.settings["nvidia_driver_branch"]


def test_every_package_of_the_closure_is_installed_in_its_version(host, packages):
    found = {name: (state, version) for name, (state, version) in listing(host, "${db:Status-Abbrev}|${Version}")}
    wrong = {name: found.get(name) for name, version in packages.items()}
    assert {name: row for name, row in wrong.items() if not row or row[0][1] != "i" or row[1] != packages[name]} == {}


def test_no_driver_package_stands_beside_the_closure(host, packages):
    """Another branch or another route would bring a second set of libraries."""
    family = load(playbooks_dir() / "module_utils" / "provision_names.py").in_family
    present = {name for name, (state,) in listing(host, "${db:Status-Status}") if state == "installed" and family(name)}
    assert present - set(packages) == set()


def test_every_package_of_the_closure_is_on_hold(host, packages):
    held = set(output(host, "apt-mark showhold").split())
    assert set(packages) - held == set()


def test_apt_offers_no_other_version_of_the_closure(host, packages):
    answer = output(host, f"apt-cache policy {' '.join(sorted(packages))}")
    candidates = dict(re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (.*)$", answer, re.MULTILINE))
    assert {name: candidates.get(name) for name in packages} == packages


def test_an_upgrade_of_everything_leaves_the_closure_alone(host, packages):
    for verb in ("upgrade", "dist-upgrade"):
        assert moved(host, f"apt-get --simulate {verb}") & set(packages) == set()


def test_unattended_upgrades_leave_the_closure_alone(host, packages):
    entries = re.findall(r'^Unattended-Upgrade::Package-Blacklist:: "(.*)";$', output(host, "apt-config dump"), re.M)
    open_to_them = [name for name in packages if not any(re.match(entry, name.partition(":")[0]) for entry in entries)]
    assert open_to_them == []
    if host.exists("unattended-upgrade"):
        told = output(host, "unattended-upgrade --dry-run --verbose 2>&1")
        chosen = re.findall(r"^Packages that will be upgraded: (.*)$", told, re.MULTILINE)
        assert set(" ".join(chosen).split()) & set(packages) == set()


def test_no_other_kernel_driver_takes_the_card(host):
    rules = output(host, "modprobe --showconfig")
    assert {"blacklist nouveau", "blacklist nova_core", "options nouveau modeset=0"} <= set(rules.splitlines())
    if host.run("systemd-detect-virt --container --quiet").rc != 0:
        assert set(output(host, "cut -d' ' -f1 /proc/modules").split()) & {"nouveau", "nova_core"} == set()


def test_the_module_is_there_for_every_kernel_of_the_closure(host, closure):
    """In a container too: there is no kernel, but there are its headers, and DKMS builds for them."""
    assert closure["kernels"]
    for release in closure["kernels"]:
        found = output(host, f"find /lib/modules/{release}/ -name 'nvidia.ko*' -o -name 'nvidia-current*.ko*'").split()
        objects = [path for path in found if re.search(r"/nvidia(-current(-open)?)?\.ko(\.\w+)?$", path)]
        assert {output(host, f"modinfo -F version {path}").strip() for path in objects} == {closure["version"]}


def test_every_driver_library_belongs_to_a_package(host):
    folders = "/usr/lib /usr/lib64 /usr/local/lib"
    command = f"find {folders} \\( -name 'libnvidia-ml.so*' -o -name 'libcuda.so*' \\) -type f 2>/dev/null || :"
    foreign = [path for path in output(host, command).split() if not owned(host, path)]
    assert foreign == []


def owned(host, path):
    """A package may name its file without the /usr that a merged file system puts in front."""
    return any(host.run(f"dpkg-query --search {twin}").rc == 0 for twin in (path, path.removeprefix("/usr")))


def test_the_driver_keeps_its_state_between_programs(host, plan):
    units = ["nvidia-persistenced"] + ["nvidia-fabricmanager"] * bool(plan.settings["nvidia_driver_fabric_manager"])
    # Ubuntu's own unit is static: udev starts it when a card gets its driver.
    assert set(output(host, f"systemctl is-enabled {' '.join(units)}").split()) <= {"enabled", "static"}


@pytest.mark.gpu
def test_the_loaded_module_is_the_installed_driver(host, closure):
    assert output(host, "cat /sys/module/nvidia/version").strip() == closure["version"]
    journal = json.loads(output(host, f"cat {ROOT}/journal.json"))
    assert journal["stage"] == "proved", f"the driver is {journal['stage']}: {journal.get('why')}"


@pytest.mark.gpu
def test_nvml_sees_every_card_with_this_driver(host, plan, closure):
    seen = nvidia_smi.parse(output(host, "nvidia-smi -q -x"))
    assert seen.driver_version == closure["version"]
    assert sorted(gpu.address for gpu in seen.gpus) == sorted(card.address for card in plan.cards)


@pytest.mark.gpu
def test_the_daemons_of_the_driver_run(host, plan):
    units = ["nvidia-persistenced"] + ["nvidia-fabricmanager"] * bool(plan.settings["nvidia_driver_fabric_manager"])
    assert output(host, f"systemctl is-active {' '.join(units)}").split() == ["active"] * len(units)

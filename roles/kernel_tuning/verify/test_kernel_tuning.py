"""The kernel runs as declared, would do so after the next boot, and was started with the declared words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from provision.model import HostPlan

UNIT = "provision-kernel-tuning.service"
PROGRAM = Path(__file__).parents[1] / "module_utils" / "kernel_tuning.py"
SYSCTLS = "/etc/sysctl.d/99-zz-provision-kernel-tuning.conf"
SWITCH = {"enabled": "1", "disabled": "0"}

# Each file of the kernel's with what it says; a pattern that matches nothing says nothing.
READ = 'for file in %s; do [ -e "$file" ] && echo "$file $(cat "$file")"; done; :'
POLICIES = "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor"


def sysctls(plan: HostPlan) -> dict[str, str]:
    settings = plan.settings
    wanted = {
        "kernel.numa_balancing": SWITCH.get(settings["kernel_tuning_numa_balancing"], ""),
        "vm.zone_reclaim_mode": SWITCH.get(settings["kernel_tuning_zone_reclaim"], ""),
        "vm.swappiness": str(settings["kernel_tuning_swappiness"]) if settings["kernel_tuning_swappiness"] >= 0 else "",
    }
    return {name: value for name, value in wanted.items() if value}


def kernel_says(host: Host, pattern: str) -> dict[str, str]:
    """What the kernel says under each path; of `a [b] c` what is chosen."""
    rows = (line.split(" ", 1) for line in host.check_output(READ % pattern).splitlines())
    return {path: (re.findall(r"\[(\S+)\]", text) or [text])[0] for path, text in rows}


def entries(host: Host) -> list[list[str]]:
    """The words of each boot entry of this system, but for those of a rescue; without GRUB the running kernel's."""
    with host.sudo():
        config = host.run("cat /boot/grub/grub.cfg")
    if config.rc != 0:
        return [host.file("/proc/cmdline").content_string.split()]
    own = "".join(re.findall(r"(?ms)^### BEGIN /etc/grub.d/10_linux\w* ###$(.*?)^### END ", config.stdout))
    found = [line.split() for line in re.findall(r"^\s*linux(?:efi)?\s+(.*)$", own, re.MULTILINE)]
    return [words for words in found if not {"single", "recovery"} & set(words)]


def lacking(plan: HostPlan, words: list[str]) -> list[str]:
    return [word for word in plan.settings["kernel_tuning_boot_parameters"] if word not in words]


@pytest.fixture(scope="module")
def compared(host: Host) -> Any:
    """What the role's own program finds to be done: only it knows the bridges above the cards."""
    with host.sudo():
        return host.run("/usr/local/lib/provision/kernel-tuning --check")


def test_what_is_declared_is_laid_down(host: Host, plan: HostPlan) -> None:
    settings = plan.settings
    wanted = {name: settings[f"kernel_tuning_{name}"] for name in ("transparent_hugepages", "governor", "acs")}
    found = json.loads(host.file("/etc/provision/kernel-tuning.json").content_string)
    assert {name: found.get(name) for name in wanted} == wanted, f"found {found} in /etc/provision/kernel-tuning.json"


def test_the_program_is_the_roles(host: Host) -> None:
    program = host.file("/usr/local/lib/provision/kernel-tuning")
    assert program.content_string == PROGRAM.read_text(encoding="utf-8"), "another program runs at boot"


def test_only_root_can_change_the_program(host: Host) -> None:
    program = host.file("/usr/local/lib/provision/kernel-tuning")
    assert (program.user, program.group, program.mode) == ("root", "root", 0o755)


def test_it_is_done_at_every_boot(host: Host) -> None:
    assert host.service(UNIT).is_enabled, f"{UNIT} is not enabled"
    told = host.check_output("systemctl show --property NeedDaemonReload,Before %s", UNIT)
    assert "NeedDaemonReload=no" in told, f"systemd does not run what stands in {UNIT}"
    missing = {"docker.service", "containerd.service"} - set(re.findall(r"[\w-]+\.service", told))
    assert not missing, f"{UNIT} does not come before {', '.join(sorted(missing))}"


def test_it_did_not_fail(host: Host) -> None:
    told = host.check_output("systemctl show --property ActiveState,Result %s", UNIT).split()
    assert sorted(told) == ["ActiveState=active", "Result=success"], f"see why: journalctl -u {UNIT}"


def test_the_sysctls_are_in_force(host: Host, plan: HostPlan) -> None:
    wanted = {"/proc/sys/" + name.replace(".", "/"): value for name, value in sysctls(plan).items()}
    assert kernel_says(host, " ".join(wanted)) == wanted


def test_the_sysctls_are_the_last_word_at_boot(host: Host, plan: HostPlan) -> None:
    """What systemd-sysctl and `sysctl --system` would set, whoever runs them."""
    told = host.check_output("systemd-analyze cat-config sysctl.d")
    pairs = re.findall(r"^\s*-?\s*([\w./-]+)\s*=\s*(.*?)\s*$", told, re.MULTILINE)
    last = {name.replace("/", "."): value for name, value in pairs}
    assert {name: last.get(name) for name in sysctls(plan)} == sysctls(plan)


def test_huge_pages_are_set_aside(host: Host, plan: HostPlan) -> None:
    wanted = {
        f"/sys/kernel/mm/hugepages/hugepages-{size}kB/nr_hugepages": str(plan.settings[name])
        for size, name in ((2048, "kernel_tuning_hugepages_2m"), (2**20, "kernel_tuning_hugepages_1g"))
        if plan.settings[name]
    }
    found = kernel_says(host, "/sys/kernel/mm/hugepages/hugepages-*/nr_hugepages")
    assert {path: found.get(path) for path in wanted} == wanted


def test_programs_get_huge_pages_as_declared(host: Host, plan: HostPlan) -> None:
    found = set(kernel_says(host, "/sys/kernel/mm/transparent_hugepage/enabled").values())
    wanted = plan.settings["kernel_tuning_transparent_hugepages"]
    assert wanted == "leave" or found == {wanted}, f"expected {wanted}, found {found}"


def test_every_processor_has_the_governor(host: Host, plan: HostPlan) -> None:
    """A virtual machine shows no frequency, and then there is no governor to have."""
    wanted = plan.settings["kernel_tuning_governor"]
    wrong = {path: found for path, found in kernel_says(host, POLICIES).items() if wanted not in ("leave", found)}
    assert not wrong, f"expected {wanted}, found {wrong}"


def test_pcie_links_save_power_as_declared(host: Host, plan: HostPlan, compared: Any) -> None:
    wanted = plan.settings["kernel_tuning_pcie_aspm"]
    found = set(kernel_says(host, "/sys/module/pcie_aspm/parameters/policy").values())
    kept = "the firmware keeps the power saving" in compared.stdout
    assert wanted == "leave" or kept or found == {wanted}, f"expected {wanted}, found {found}"


def test_no_bridge_above_the_cards_redirects_them_where_declared(plan: HostPlan, compared: Any) -> None:
    assert compared.rc in (0, 3), compared.stdout + compared.stderr
    redirecting = [line for line in compared.stdout.splitlines() if "/config: " in line]
    assert plan.settings["kernel_tuning_acs"] == "leave" or not redirecting, "; ".join(redirecting)


def test_the_next_boot_gets_the_declared_words(host: Host, plan: HostPlan) -> None:
    if not plan.settings["kernel_tuning_boot_parameters"]:
        drop_in = host.file("/etc/default/grub.d/90-provision.cfg")
        assert not drop_in.exists, f"nothing is declared, and {drop_in.path} is there"
        return
    found = entries(host)
    assert found, "GRUB's configuration boots no kernel"
    wrong = [(lacking(plan, words), words[0]) for words in found if lacking(plan, words)]
    assert not wrong, "; ".join(f"the entry of {kernel} lacks {' '.join(lost)}" for lost, kernel in wrong)


def test_the_running_kernel_was_started_with_the_declared_words(host: Host, plan: HostPlan) -> None:
    line = host.file("/proc/cmdline").content_string
    lost = lacking(plan, line.split())
    assert not lost, f"the running kernel was not started with {' '.join(lost)}: reboot; it has {line.strip()}"

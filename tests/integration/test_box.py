"""One bare box on its whole way: foretold, applied, proved, applied again, broken, mended. The tests stand in order."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.conftest import PROVISION, Answer, Target, changed_tasks, environment, provision

pytestmark = pytest.mark.lab

ROLES = ["base", "docker", "uv", "python_ml", "model_cache"]

# What a login, sudo and a running system write by themselves while nothing is done to it.
OWN_LIFE = ("/var/log", "/var/cache/apt", "/var/lib/sudo", "/var/lib/systemd", "/var/lib/private", "/root/.ansible",
            "/home/admin/.ansible", "/etc/resolv.conf", "/etc/hosts")  # fmt: skip


@pytest.fixture(scope="module")
def foretold(box: Target) -> Answer:
    box.sh("touch /tmp/reference")
    return box.apply("--check")


@pytest.fixture(scope="module")
def applied(box: Target, foretold: Answer) -> Answer:
    return box.apply()


def test_plan_on_a_bare_box_says_what_and_why(box: Target) -> None:
    answer = provision("plan", "--tier", "budget", *box.options(), "--output", "json", home=box.home)
    assert answer.code == 0, answer.out + answer.err
    plan = answer.host("box")["plan"]
    assert plan["roles"] == ROLES
    assert plan["frameworks"]["torch_backend"] == "cpu"
    assert any("no NVIDIA card" in reason["because"] for reason in plan["reasons"])
    assert {short["subject"] for short in plan["shortfalls"]} >= {"GPU"}
    assert "not managed yet" in " ".join(plan["not_managed_yet"].values())


def test_a_box_below_its_tier_needs_the_operators_word(box: Target) -> None:
    answer = provision("apply", "--yes", "--tier", "budget", *box.options(), home=box.home)
    assert answer.code == 2
    assert "--accept-hardware" in answer.out


def test_check_mode_on_a_bare_box_writes_nothing(box: Target, foretold: Answer) -> None:
    assert foretold.code == 0, foretold.out + foretold.err
    written = box.sh("find / -xdev -newer /tmp/reference -not -type d").splitlines()
    assert [path for path in written if not path.startswith((*OWN_LIFE, "/tmp", "/var/tmp"))] == []


def test_apply_takes_a_bare_box_to_a_proved_state(box: Target, applied: Answer) -> None:
    assert applied.code == 0, applied.out[-4000:] + applied.err[-4000:]
    checks = applied.host("box")["checks"]
    assert {check["role"] for check in checks} == set(ROLES)
    assert {check["state"] for check in checks} == {"passed"}


def test_check_mode_foretold_what_then_changed(box: Target, foretold: Answer, applied: Answer) -> None:
    assert changed_tasks(foretold, "box") == changed_tasks(applied, "box")


def test_a_second_apply_changes_and_restarts_nothing(box: Target, applied: Answer) -> None:
    services = "systemctl show --property=Id,MainPID,ActiveEnterTimestampMonotonic '*.service'"
    lasting = ("docker.service", "containerd.service", "systemd-journald.service", "ssh.service", "cron.service")
    before = {unit for unit in box.sh(services).split("\n\n") if any(name in unit for name in lasting)}
    again = box.apply()
    after = {unit for unit in box.sh(services).split("\n\n") if any(name in unit for name in lasting)}
    assert again.code == 0, again.out[-4000:] + again.err[-4000:]
    assert changed_tasks(again, "box") == set()
    assert any("docker.service" in unit for unit in before)
    assert before == after


def test_security_updates_that_somebody_turned_off_come_back(box: Target, applied: Answer) -> None:
    box.sh("systemctl disable --quiet --now apt-daily.timer apt-daily-upgrade.timer")
    answer = box.apply("--only", "base")
    assert answer.code == 0, answer.out[-4000:] + answer.err[-4000:]
    assert changed_tasks(answer, "box") == {("base", "Have the security updates fetched and installed every day")}


def test_verify_alone_agrees(box: Target, applied: Answer, tmp_path: Path) -> None:
    answer = box.verify("--junit", str(tmp_path / "verify.xml"))
    assert answer.code == 0, answer.out[-4000:] + answer.err[-4000:]
    assert answer.host("box")["state"] == "verified"
    assert 'failures="0"' in (tmp_path / "verify.xml").read_text()


def test_every_run_is_kept_and_shown_again(box: Target, applied: Answer) -> None:
    shown = provision("show", applied.document["run"], "--output", "json", home=box.home)
    assert shown.document["hosts"] == applied.document["hosts"]
    runs = provision("history", "--output", "json", home=box.home).document["data"]["runs"]
    assert applied.document["run"] in {run["run"] for run in runs}
    ledger = box.home / "provision"
    assert ledger.stat().st_mode & 0o777 == 0o700
    loose = [path for path in ledger.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert loose == []


def test_ctrl_c_ends_cleanly_and_the_next_apply_converges(box: Target, applied: Answer) -> None:
    box.sh("rm -f /etc/docker/daemon.json")
    code, out = killed(box, signal.SIGINT)
    assert code == 130
    assert json.loads(out)["status"] == "interrupted"
    assert box.apply().code == 0


def test_a_dead_controller_leaves_a_host_that_converges(box: Target, applied: Answer) -> None:
    box.sh("rm -f /etc/docker/daemon.json")
    code, _ = killed(box, signal.SIGKILL)
    assert code == -signal.SIGKILL
    runs = provision("history", "--output", "json", home=box.home).document["data"]["runs"]
    assert runs[0]["status"] == "interrupted"
    healed = box.apply()
    assert healed.code == 0, healed.out[-4000:] + healed.err[-4000:]


def killed(box: Target, number: int) -> tuple[int, str]:
    """Start an apply, stop it with a signal in its first roles; the exit code and what it printed."""
    command = [str(PROVISION), "apply", "--accept-hardware", "--yes", "--tier", "budget", "--output", "json"]
    with subprocess.Popen(
        [*command, *box.options()], env=environment(box.home), stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as running:  # fmt: skip
        assert running.stderr
        for line in running.stderr:
            if "role docker" in line:
                break
        time.sleep(1)
        running.send_signal(number)
        out, _ = running.communicate(timeout=60)
        return running.returncode, out


def test_no_secret_is_kept(box: Target, applied: Answer, tmp_path: Path) -> None:
    """A sudo password that is really needed and a vaulted setting: in nothing that is printed or left behind."""
    password = (Path(box.host.inventory).parent / "needpass.password").read_text().strip()
    (tmp_path / "become").write_text(password + "\n")
    (tmp_path / "vault").write_text("opens the vault\n")
    token = "hush-7f3a1c"
    vaulted = subprocess.run(
        [PROVISION.with_name("ansible-vault"), "encrypt_string", "--vault-password-file", tmp_path / "vault", token],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (tmp_path / "hosts.yml").write_text(
        "all:\n  hosts:\n    box:\n"
        f"      ansible_host: {box.host.address}\n      ansible_user: needpass\n"
        f"      ansible_ssh_private_key_file: {box.host.identity_file}\n"
        f"      ansible_ssh_common_args: -o UserKnownHostsFile={box.host.known_hosts}\n"
        f"      model_cache_token: {vaulted}\n"
    )
    answer = provision(
        "apply", "--accept-hardware", "--yes", "--tier", "budget", "-i", tmp_path / "hosts.yml", "--output", "json",
        "--only", "model_cache", "--become-password-file", tmp_path / "become",
        "--vault-password-file", tmp_path / "vault", home=box.home,
    )  # fmt: skip
    assert answer.code == 0, answer.out[-3000:] + answer.err[-3000:]
    for secret in (password, token, "opens the vault"):
        assert secret not in answer.out + answer.err
        assert [path for path in box.home.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()] == []

"""One bare box on its whole way: foretold, applied, proved, applied again, interrupted, made good."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.conftest import PROVISION, changed_tasks, environment, provision
from tests.integration.whole_box import ROLES, WholeBox

pytestmark = [pytest.mark.lab, pytest.mark.xdist_group("box")]

# What is interrupted in its second role, and made good by the same: to prove the others as well would take torch.
INTERRUPTED = ("--only", "base", "--only", "docker")


def test_plan_on_a_bare_box_says_what_and_why(box: WholeBox) -> None:
    answer = box.planned
    assert answer.code == 0, answer.out + answer.err
    plan = answer.host("box")["plan"]
    assert plan["roles"] == ROLES
    assert plan["frameworks"]["torch_backend"] == "cpu"
    assert any("no NVIDIA card" in reason["because"] for reason in plan["reasons"])
    assert {short["subject"] for short in plan["shortfalls"]} >= {"GPU"}
    assert "not managed yet" in " ".join(plan["not_managed_yet"].values())


def test_a_box_below_its_tier_needs_the_operators_word(box: WholeBox) -> None:
    assert box.without_a_word.code == 2
    assert "--accept-hardware" in box.without_a_word.out


def test_check_mode_on_a_bare_box_writes_nothing(box: WholeBox) -> None:
    assert box.foretold.code == 0, box.foretold.out + box.foretold.err
    assert box.written == []


def test_apply_takes_a_bare_box_to_a_proved_state(box: WholeBox) -> None:
    assert box.applied.code == 0, box.applied.out[-4000:] + box.applied.err[-4000:]
    checks = box.applied.host("box")["checks"]
    assert {check["role"] for check in checks} == set(ROLES)
    assert {check["state"] for check in checks} == {"passed"}


def test_check_mode_foretold_what_then_changed(box: WholeBox) -> None:
    assert changed_tasks(box.foretold, "box") == changed_tasks(box.applied, "box")


def test_a_second_apply_changes_and_restarts_nothing(box: WholeBox) -> None:
    services = "systemctl show --property=Id,MainPID,ActiveEnterTimestampMonotonic '*.service'"
    lasting = ("docker.service", "containerd.service", "systemd-journald.service", "ssh.service", "cron.service")
    before = {unit for unit in box.proved.sh(services).split("\n\n") if any(name in unit for name in lasting)}
    again = box.apply()
    after = {unit for unit in box.proved.sh(services).split("\n\n") if any(name in unit for name in lasting)}
    assert again.code == 0, again.out[-4000:] + again.err[-4000:]
    assert changed_tasks(again, "box") == set()
    assert any("docker.service" in unit for unit in before)
    assert before == after


def test_security_updates_that_somebody_turned_off_come_back(box: WholeBox) -> None:
    box.proved.sh("systemctl disable --quiet --now apt-daily.timer apt-daily-upgrade.timer")
    answer = box.apply("--only", "base")
    assert answer.code == 0, answer.out[-4000:] + answer.err[-4000:]
    assert changed_tasks(answer, "box") == {("base", "Have the security updates fetched and installed every day")}


def test_verify_alone_agrees(box: WholeBox, tmp_path: Path) -> None:
    assert box.proved
    answer = box.verify("--junit", str(tmp_path / "verify.xml"))
    assert answer.code == 0, answer.out[-4000:] + answer.err[-4000:]
    assert answer.host("box")["state"] == "verified"
    assert 'failures="0"' in (tmp_path / "verify.xml").read_text()


def test_every_run_is_kept_and_shown_again(box: WholeBox) -> None:
    home, applied = box.target.home, box.applied.document
    shown = provision("show", applied["run"], "--output", "json", home=home)
    assert shown.document["hosts"] == applied["hosts"]
    runs = provision("history", "--output", "json", home=home).document["data"]["runs"]
    assert applied["run"] in {run["run"] for run in runs}
    ledger = home / "provision"
    assert ledger.stat().st_mode & 0o777 == 0o700
    loose = [path for path in ledger.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert loose == []


def test_ctrl_c_ends_cleanly_and_the_next_apply_converges(box: WholeBox) -> None:
    box.proved.sh("rm -f /etc/docker/daemon.json")
    code, out = killed(box, signal.SIGINT)
    assert code == 130
    assert json.loads(out)["status"] == "interrupted"
    assert box.apply(*INTERRUPTED).code == 0


def test_a_dead_controller_leaves_a_host_that_converges(box: WholeBox) -> None:
    box.proved.sh("rm -f /etc/docker/daemon.json")
    code, _ = killed(box, signal.SIGKILL)
    assert code == -signal.SIGKILL
    runs = provision("history", "--output", "json", home=box.target.home).document["data"]["runs"]
    assert runs[0]["status"] == "interrupted"
    healed = box.apply(*INTERRUPTED)
    assert healed.code == 0, healed.out[-4000:] + healed.err[-4000:]


def killed(box: WholeBox, number: int) -> tuple[int, str]:
    """Start an apply, stop it with a signal in its first roles; the exit code and what it printed."""
    command = [str(PROVISION), "apply", "--accept-hardware", "--yes", "--tier", str(box.tier), "--output", "json"]
    with subprocess.Popen(
        [*command, *INTERRUPTED, *box.target.options()], env=environment(box.target.home), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as running:  # fmt: skip
        assert running.stderr
        for line in running.stderr:
            if "role docker" in line:
                break
        time.sleep(1)
        running.send_signal(number)
        out, _ = running.communicate(timeout=60)
        return running.returncode, out


def test_no_secret_is_kept(box: WholeBox, tmp_path: Path) -> None:
    """A sudo password that is really needed and a vaulted setting: in nothing that is printed or left behind."""
    host = box.proved.host
    password = (Path(host.inventory).parent / "needpass.password").read_text().strip()
    (tmp_path / "become").write_text(password + "\n")
    (tmp_path / "vault").write_text("opens the vault\n")
    token = "hush-7f3a1c"
    vaulted = subprocess.run(
        [PROVISION.with_name("ansible-vault"), "encrypt_string", "--vault-password-file", tmp_path / "vault", token],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (tmp_path / "hosts.yml").write_text(
        "all:\n  hosts:\n    box:\n"
        f"      ansible_host: {host.address}\n      ansible_user: needpass\n"
        f"      ansible_ssh_private_key_file: {host.identity_file}\n"
        f"      ansible_ssh_common_args: -o UserKnownHostsFile={host.known_hosts}\n"
        f"      model_cache_token: {vaulted}\n"
    )
    answer = provision(
        "apply", "--accept-hardware", "--yes", "--tier", box.tier, "-i", tmp_path / "hosts.yml", "--output", "json",
        "--only", "model_cache", "--become-password-file", tmp_path / "become",
        "--vault-password-file", tmp_path / "vault", home=box.target.home,
    )  # fmt: skip
    assert answer.code == 0, answer.out[-3000:] + answer.err[-3000:]
    for secret in (password, token, "opens the vault"):
        assert secret not in answer.out + answer.err
        assert [
            path for path in box.target.home.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()
        ] == []

"""What role base promises, asked of the host itself."""

import base64
import hashlib
import re
import time
from pathlib import Path

STORE = "/etc/ssl/certs/ca-certificates.crt"


def output(host, command, *arguments):
    """Standard output of a command that must succeed, as root."""
    with host.sudo():
        return host.check_output(command, *arguments)


def authorities(text):
    """SHA-256 of each certificate in a PEM text."""
    bodies = re.findall(r"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", text, re.DOTALL)
    return {hashlib.sha256(base64.b64decode("".join(body.split()))).hexdigest() for body in bodies}


def apt_settings(host):
    """apt's effective configuration: each key with its values."""
    settings = {}
    for key, value in re.findall(r'^(\S+) "(.*)";$', output(host, "apt-config dump"), re.MULTILINE):
        settings.setdefault(key.rstrip(":"), []).append(value)
    return settings


def in_container(host):
    return host.run("systemd-detect-virt --container --quiet").rc == 0


def test_the_tools_are_installed_and_whole(host, plan):
    names = " ".join(plan.settings["base_packages"])
    states = output(host, f"dpkg-query --show --showformat '${{db:Status-Abbrev}}|${{Package}}\\n' {names}")
    assert [line for line in states.splitlines() if not line.startswith("ii ")] == []
    damaged = host.run(f"dpkg --verify {names}").stdout
    # Images often leave documentation out on purpose; programs never.
    assert [line for line in damaged.splitlines() if re.search(r"/s?bin/", line)] == []


def test_no_package_is_left_half_configured(host):
    assert output(host, "dpkg --audit") == ""


def test_apt_uses_the_declared_sources_instead_of_the_distributions(host, plan):
    used = set(re.findall(r"^'(\S+)InRelease'", output(host, "apt-get update --print-uris"), re.MULTILINE))
    assert used, "apt has no source at all"
    declared = [
        f"{uri.rstrip('/')}/{suite if suite.endswith('/') else f'dists/{suite}/'}"
        for source in plan.settings["base_apt_sources"]
        for uri in source["uris"]
        for suite in source["suites"]
    ]
    assert set(declared) - used == set()
    own = ("/etc/apt/sources.list", f"/etc/apt/sources.list.d/{plan.os.id}.sources")
    assert [path for path in own if declared and host.file(path).exists] == []


def test_apt_knows_what_it_could_install(host):
    assert "Candidate: (none)" not in output(host, "apt-cache policy ca-certificates curl")
    assert "/var/lib/dpkg/status" not in output(host, "apt-cache madison ca-certificates")
    assert output(host, "apt-cache madison ca-certificates") != ""


def test_security_updates_come_by_themselves_and_never_reboot(host, plan):
    settings = apt_settings(host)
    wanted = plan.settings["base_unattended_upgrades"]
    assert settings["APT::Periodic::Unattended-Upgrade"] == ["1" if wanted else "0"]
    assert settings["Unattended-Upgrade::Automatic-Reboot"] == ["false"]
    origins = settings["Unattended-Upgrade::Origins-Pattern"]
    assert [origin for origin in origins if origin and "security" not in origin] == []
    blacklist = settings.get("Unattended-Upgrade::Package-Blacklist", [])
    assert set(plan.settings["base_unattended_blacklist"]) <= set(blacklist)
    if wanted:
        assert output(host, "systemctl is-enabled apt-daily.timer apt-daily-upgrade.timer").split() == ["enabled"] * 2


def test_no_installation_stops_to_ask_about_restarts(host):
    ask = "our %nrconf; do '/etc/needrestart/conf.d/50-provision.conf'; print $nrconf{restart}, $nrconf{kernelhints};"
    assert output(host, "perl -e %s", ask) == "l-1"


def test_the_clock_agrees_with_the_controllers(host, plan):
    before = time.time()
    there = float(output(host, "date +%s.%N"))
    after = time.time()
    tolerance = plan.settings["base_clock_tolerance"]
    assert before - tolerance <= there <= after + tolerance


def test_a_daemon_keeps_the_clock(host, plan):
    daemons = ("systemd-timesyncd", "chrony", "ntpsec", "ntp", "openntpd")
    keeping = [name for name in daemons if host.run(f"systemctl is-enabled {name}").rc == 0]
    assert keeping, "no time daemon is enabled"
    # A container's clock is its host's: there the daemon is only ready for the day this system boots by itself.
    if not in_container(host):
        assert any(host.service(name).is_running for name in keeping), "no time daemon runs"
    # A host has one of the two daemons, and its files only where time servers are declared.
    files = "/etc/systemd/timesyncd.conf.d/*.conf /etc/chrony/conf.d/*.conf"
    configured = output(host, f"set -e; for file in {files}; do test ! -e $file || cat $file; done")
    assert [name for name in plan.settings["base_time_servers"] if name not in configured] == []


def test_the_declared_authorities_are_in_the_trust_store(host, plan):
    bundle = plan.settings["base_ca_bundle"]
    declared = authorities(Path(bundle).expanduser().read_text()) if bundle else set()
    trusted = authorities(output(host, f"cat {STORE}"))
    assert trusted, f"{STORE} holds no certificate"
    assert declared - trusted == set()


def test_added_authorities_are_found_by_hash_too(host):
    # OpenSSL's hash directory is what Python on Ubuntu looks into; a file with several certificates is not in it.
    judge = "openssl verify -no_check_time -partial_chain -no-CAfile -no-CAstore -CApath /etc/ssl/certs"
    added = "find /usr/local/share/ca-certificates -name 'provision-*.crt'"
    with host.sudo():
        refused = host.run(f"{added} -exec {judge} '{{}}' \\;").stderr
    assert refused == ""


def test_the_journal_has_its_limits(host, plan):
    effective = output(host, "systemd-analyze cat-config systemd/journald.conf")
    for key, variable in (("SystemMaxUse", "base_journal_max_use"), ("MaxRetentionSec", "base_journal_max_age")):
        values = re.findall(rf"^{key}=(.*)$", effective, re.MULTILINE)
        assert values[-1:] == [plan.settings[variable]]
    started = output(
        host, 'date +%s --date "$(systemctl show systemd-journald --value --property ActiveEnterTimestamp)"'
    )
    written = output(host, "stat --format %Y /etc/systemd/journald.conf.d/50-provision.conf")
    assert int(started) >= int(written), "the journal has not been restarted since it was configured"


def test_new_sessions_get_their_limits(host, plan):
    kinds = {"n": plan.settings["base_limits_nofile"], "l": plan.settings["base_limits_memlock"]}
    for kind, declared in kinds.items():
        soft, hard = output(host, f"su --shell /bin/sh nobody --command 'ulimit -S{kind}; ulimit -H{kind}'").split()
        # Where the kernel lets nobody raise the hard limit, as in a container, the most there is to have is that limit.
        capped = in_container(host) and hard != "unlimited" and (declared == "unlimited" or int(declared) > int(hard))
        assert soft == (hard if capped else str(declared))


def test_the_administrator_is_as_declared(host, plan):
    name = plan.settings["base_admin_user"]
    sudoers = "/etc/sudoers.d/provision-admin"
    if not (name and plan.settings["base_admin_sudo"]):
        given = output(host, f"test ! -e {sudoers} || cat {sudoers}")
        assert given == "", "sudo is given to somebody who is not declared"
    else:
        assert f"{name} ALL=(ALL:ALL) NOPASSWD: ALL" in output(host, f"cat {sudoers}")
        assert output(host, f"su --shell /bin/sh {name} --command 'sudo -n id -u'") == "0"
    if name:
        home = host.user(name).home
        keys = (
            output(host, f"cat {home}/.ssh/authorized_keys").splitlines()
            if plan.settings["base_admin_authorized_keys"]
            else []
        )
        assert [key for key in plan.settings["base_admin_authorized_keys"] if key.strip() not in keys] == []
        assert output(host, f"stat --format '%a %U' {home}/.ssh") == f"700 {name}"

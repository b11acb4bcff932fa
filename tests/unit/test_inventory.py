"""Hosts from the command line and from whatever inventory Ansible reads; broken ones are refused with file and line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.errors import ProvisionError
from provision.inventory import parse_target, read_inventory
from provision.model import Host

FORM = "write it as host, user@host:port or user@[IPv6]:port"


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("box", Host("box")),
        ("gpu1.example", Host("gpu1.example")),
        ("192.0.2.7", Host("192.0.2.7")),
        ("ana@box", Host("box", user="ana")),
        ("ana@box:2222", Host("box", user="ana", port=2222)),
        ("ana@corp.example@box", Host("box", user="ana@corp.example")),
        ("2001:db8::1", Host("2001:db8::1")),
        ("[2001:db8::1]:22", Host("2001:db8::1", port=22)),
        ("ana@[2001:db8::1]", Host("2001:db8::1", user="ana")),
        ("fe80::1%eth0", Host("fe80::1%eth0")),
        ("my_alias", Host("my_alias")),
    ],
)
def test_a_target_is_read_as_ssh_would(text: str, host: Host) -> None:
    assert parse_target(text) == host


@pytest.mark.parametrize(
    ("text", "subject", "fact", "hint"),
    [
        (
            "-oProxyCommand=x",
            "host -oProxyCommand=x",
            "has a host name that begins with a dash",
            "ssh would take it for an option",
        ),
        ("ana@-x", "host ana@-x", "has a host name that begins with a dash", "ssh would take it for an option"),
        ("-l@box", "host -l@box", "has a user that begins with a dash", "ssh would take it for an option"),
        ("box:0", "host box:0", "has a port that is not a number from 1 to 65535: 0", FORM),
        ("box:65536", "host box:65536", "has a port that is not a number from 1 to 65535: 65536", FORM),
        ("box:ssh", "host box:ssh", "has a port that is not a number from 1 to 65535: ssh", FORM),
        ("box:", "host box:", "has a port that is not a number from 1 to 65535: (empty)", FORM),
        (
            "box:\u0662\u0662",
            "host box:\u0662\u0662",
            "has a port that is not a number from 1 to 65535: \u0662\u0662",
            FORM,
        ),
        ("a b", "host 'a b'", "holds a space or a control character", FORM),
        ("a\nb", "host 'a\\nb'", "holds a space or a control character", FORM),
        ("a\x1b[2J", "host 'a\\x1b[2J'", "holds a space or a control character", FORM),
        ("", "host (empty)", "names no host", FORM),
        ("ana@", "host ana@", "names no host", FORM),
        ("@box", "host @box", "names no user before the @", FORM),
        ("[box]:22", "host [box]:22", "is not an IPv6 address in brackets", FORM),
        ("[::1", "host [::1", "is not an IPv6 address in brackets", FORM),
        ("a:b:c", "host a:b:c", "is not an IPv6 address", FORM),
        ("box;reboot", "host box;reboot", "holds a character that no host name has", FORM),
        ("$(id)", "host $(id)", "holds a character that no host name has", FORM),
    ],
)
def test_a_bad_target_is_refused(text: str, subject: str, fact: str, hint: str) -> None:
    with pytest.raises(ProvisionError) as caught:
        parse_target(text)
    assert [(said.subject, said.fact, said.hint) for said in caught.value.refusals] == [(subject, fact, hint)]


@given(st.text(max_size=20) | st.text("-@:[]0123456789abf.%", max_size=20))
def test_whatever_is_let_through_is_safe_on_a_command_line(text: str) -> None:
    try:
        host = parse_target(text)
    except ProvisionError:
        return
    for part in (host.name, host.user or "ana"):
        assert part
        assert part.isprintable()
        assert not part.startswith("-")
        assert not set(part) & set(" \t\n'\"`$;&|<>()*?!#~")
    assert host.port is None or 1 <= host.port <= 65535


# -- inventories ---------------------------------------------------------------------------------------------------


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def refused(folder: Path, *args: object) -> list[tuple[str, str, str]]:
    try:
        told = read_inventory(*args).refusals  # type: ignore[arg-type]
    except ProvisionError as error:
        told = error.refusals
    return [(said.subject.replace(f"{folder}/", ""), said.fact.replace(f"{folder}/", ""), said.hint) for said in told]


FLEET = """\
all:
  vars: {net: 10.0.0}
  children:
    boxes:
      hosts:
        web1: {ansible_host: "{{ net }}.1", ansible_port: 2222, ansible_user: ana, docker_users: [ana]}
        web2: {ansible_ssh_private_key_file: /k, ansible_ssh_common_args: "-o 'ProxyJump=a b' -4"}
"""


def test_groups_files_and_templates_come_to_one_set_of_variables(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        {
            "hosts.yml": FLEET,
            "group_vars/boxes.yml": "base_journal_max_use: 1G\nbase_journal_max_age: 1day\ntier: budget\n",
            "host_vars/web1.yml": "base_journal_max_use: 2G\n",
        },
    )
    web1, web2 = read_inventory([folder / "hosts.yml"]).hosts
    assert (web1.name, web1.address, web1.port, web1.user) == ("web1", "10.0.0.1", 2222, "ana")
    assert web1.variables == {
        "net": "10.0.0",
        "ansible_host": "10.0.0.1",
        "ansible_port": 2222,
        "ansible_user": "ana",
        "docker_users": ["ana"],
        "base_journal_max_use": "2G",
        "base_journal_max_age": "1day",
        "tier": "budget",
    }
    assert (web2.address, web2.identity_file, web2.ssh_args) == (None, "/k", ("-o", "ProxyJump=a b", "-4"))


def test_any_form_that_ansible_reads(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        {
            "hosts.ini": "[boxes]\nini1 ansible_port=2200\n",
            "dynamic": "#!/bin/sh\n"
            """echo '{"g": {"hosts": ["dyn1"]}, "_meta": {"hostvars": {"dyn1": {"ansible_user": "u"}}}}'\n""",
            "several/one.yml": "all: {hosts: {dir1: }}\n",
            "several/two.ini": "dir2\n",
        },
    )
    (folder / "dynamic").chmod(0o755)
    hosts = read_inventory([folder / "hosts.ini", folder / "dynamic", folder / "several", "in1,in2,"]).hosts
    assert {host.name: (host.port, host.user) for host in hosts} == {
        "ini1": (2200, None), "dyn1": (None, "u"), "dir1": (None, None), "dir2": (None, None),
        "in1": (None, None), "in2": (None, None),
    }  # fmt: skip


def test_a_vault_is_opened_with_its_password(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("open sesame\n")
    (tmp_path / "wrong").write_text("open barley\n")
    vault = [str(Path(sys.executable).parent / "ansible-vault"), "encrypt_string", "secret"]
    made = subprocess.run(
        [*vault, "--name", "ansible_become_password", "--vault-password-file", "password"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    folder = write(tmp_path, {"hosts.yml": "all: {hosts: {box: }}\n", "host_vars/box.yml": made.stdout})
    by_file = read_inventory([folder / "hosts.yml"], None, [folder / "password"]).hosts
    by_word = read_inventory([folder / "hosts.yml"], vault_password="open sesame").hosts
    assert by_file[0].variables == by_word[0].variables == {"ansible_become_password": "secret"}
    ((subject, fact, hint),) = refused(folder, [folder / "hosts.yml"])
    assert subject == "inventory box ansible_become_password"
    assert fact.startswith("cannot be evaluated: ")
    assert "no vault secrets found" in fact
    assert hint == "add --ask-vault-pass"
    for secrets in ([folder / "wrong"], None), ([], "wrong"):
        ((_, fact, hint),) = refused(folder, [folder / "hosts.yml"], None, *secrets)
        assert "no vault secrets were found that could decrypt" in fact
        assert hint == "the vault password does not fit: give the one it was encrypted with"


def test_limit_narrows(tmp_path: Path) -> None:
    folder = write(tmp_path, {"hosts.yml": FLEET})
    assert [host.name for host in read_inventory([folder / "hosts.yml"], "web*:!web1").hosts] == ["web2"]


def test_a_limit_that_matches_nothing_is_refused_with_the_nearest(tmp_path: Path) -> None:
    folder = write(tmp_path, {"hosts.yml": FLEET})
    known = "the inventory has web1, web2, all, ungrouped, boxes"
    assert refused(folder, [folder / "hosts.yml"], "web1,webb2") == [
        ("host webb2", "is neither a host nor a group of the inventory", f"did you mean web2? otherwise {known}")
    ]
    assert refused(folder, [folder / "hosts.yml"], "zzz") == [
        ("host zzz", "is neither a host nor a group of the inventory", known)
    ]


def test_every_broken_file_beside_an_inventory_is_told_with_its_line(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        {
            "hosts.yml": "all:\n  hosts:\n    web1:\n\tx: 3\n",
            "group_vars/all.yml": "docker_users: [a]\ndocker_users: [b]\n",
            "group_vars/boxes/main.yml": "a: [b\nc: d\n",
            "host_vars/web1": "a: b: c\n",
            "host_vars/README.md": "a: b: c\n",
        },
    )
    mend = "mend the line; YAML is indented with spaces, never tabs"
    assert refused(folder, [folder / "hosts.yml", folder / "no.yml"]) == [
        ("hosts.yml:4:1", "is not valid YAML: found character that cannot start any token", mend),
        ("group_vars/all.yml:2", "names the key docker_users twice", "keep one of the two"),
        ("group_vars/boxes/main.yml:2:2", "is not valid YAML: did not find expected ',' or ']'", mend),
        ("host_vars/web1:1:5", "is not valid YAML: mapping values are not allowed in this context", mend),
        ("inventory no.yml", "does not exist", "check the path after -i"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "fact"),
    [
        ("list.yml", "all: {hosts: [a, b]}\n", 'Invalid "hosts" entry for "all" group, requires a dictionary, found'),
        ("bad.ini", "[boxes\nweb1\n", ""),
        ("fails", "#!/bin/sh\nexit 3\n", "Inventory script returned non-zero exit code 3."),
    ],
)
def test_what_is_no_inventory_is_refused(name: str, text: str, fact: str, tmp_path: Path) -> None:
    write(tmp_path, {name: text})
    (tmp_path / name).chmod(0o755 if text.startswith("#!") else 0o644)
    ((subject, told, hint),) = refused(tmp_path, [tmp_path / name])
    assert (subject, hint) == (f"inventory {name}", "mend it, and try again")
    assert told.startswith(f"is not an inventory: {fact}")
    assert "_Ansible" not in told


def test_an_inventory_without_hosts_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, {"hosts.yml": "all: {hosts: {}}\n"})
    assert refused(folder, [folder / "hosts.yml"]) == [
        ("inventory hosts.yml", "names no host", "add one, or choose others")
    ]


def test_unusable_values_are_told_and_somebodys_own_are_left_alone(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        {
            "hosts.yml": "all:\n  hosts:\n"
            "    box1: {docker_users: '{{ nobody_said }}', my_own: '{{ nobody_said }}'}\n"
            '    box2: {ansible_port: ssh, ansible_ssh_common_args: "-o \'x"}\n'
        },
    )
    assert refused(folder, [folder / "hosts.yml"]) == [
        (
            "inventory box1 docker_users",
            "cannot be evaluated: 'nobody_said' is undefined",
            "write the value itself; the host has not been looked at yet",
        ),
        ("inventory box2 ansible_port", "is not a port: ssh", "give a number up to 65535"),
        (
            "inventory box2 ansible_ssh_common_args",
            "is not a command line: No closing quotation",
            "close the quotation",
        ),
    ]
    assert [host.name for host in read_inventory([folder / "hosts.yml"]).hosts] == ["box2"]


def test_the_example_fleet_is_sound() -> None:
    example = Path(__file__).parents[2] / "inventories" / "example" / "hosts.yml"
    hosts = {host.name: host.variables.get("tier") for host in read_inventory([example]).hosts}
    assert hosts == {
        "dc-1": "datacenter", "studio-1": "studio", "workstation-1": "workstation",
        "budget-1": "budget", "budget-2": "budget",
    }  # fmt: skip

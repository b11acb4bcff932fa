"""Hosts: named on the command line, or read from any inventory that Ansible reads."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.errors import ProvisionError, refuse
from provision.model import Host, Refusal
from provision.nearest import did_you_mean
from provision.schema import refusals
from provision.settings import load_registry, missing_files
from provision.yamlfile import check_yaml

_PATIENCE = 120  # seconds; a dynamic inventory may ask a slow service
_FORM = "write it as host, user@host:port or user@[IPv6]:port"
_STRICT = {
    "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
    "ANSIBLE_HOST_PATTERN_MISMATCH": "error",
    "ANSIBLE_DUPLICATE_YAML_DICT_KEY": "error",
    "ANSIBLE_NOCOLOR": "true",
    "ANSIBLE_DEPRECATION_WARNINGS": "false",
}


def parse_target(text: str) -> Host:
    """A host as one writes it for ssh: `host`, an alias of the ssh configuration, `user@host:port`, `[v6]:port`, `v6`.

    Raises:
        ProvisionError: what is wrong with it; nothing that ssh could take for an option gets through.
    """
    subject = f"host {text!r}" if not text.isprintable() or " " in text else f"host {text or '(empty)'}"
    if not text.isprintable() or any(letter.isspace() for letter in text):
        raise refuse(subject, "holds a space or a control character", _FORM)
    user, at, rest = text.rpartition("@")
    name, port = _name_and_port(subject, rest)
    for part, what in ((name, "host name"), (user, "user")):
        if part.startswith("-"):
            raise refuse(subject, f"has a {what} that begins with a dash", "ssh would take it for an option")
    if not name or (at and not user):
        raise refuse(subject, "names no host" if not name else "names no user before the @", _FORM)
    if not re.fullmatch(r"[\w.:%-]+", name) or not re.fullmatch(r"[\w.@\\+-]*", user):
        raise refuse(subject, "holds a character that no host name has", _FORM)
    return Host(name=name, port=port, user=user or None)


@dataclass(frozen=True)
class Inventory:
    """The hosts whose variables could be evaluated, and what is wrong with the variables of any host."""

    hosts: tuple[Host, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def read_inventory(
    sources: Sequence[Path | str],
    limit: str | None = None,
    vault_files: Sequence[Path] = (),
    vault_password: str | None = None,
) -> Inventory:
    """The hosts of inventories (files, directories, scripts, `a,b,`), narrowed by an Ansible pattern.

    Vaults are opened and templates evaluated, as far as this is possible before a host is looked at.

    Raises:
        ProvisionError: missing and broken files (with their lines), a limit that matches nothing.
    """
    faults = [refusal for source in sources for refusal in _check(str(source))]
    if faults:
        raise ProvisionError(faults)
    request = {
        "sources": [_absolute(str(source)) for source in sources],
        "limit": limit,
        "vault_files": [str(path) for path in vault_files],
        "vault_password": vault_password,
    }
    answer = _ask(request)
    if answer["error"] is not None:
        raise _told(answer["error"], answer["stderr"], sources, answer["known"])
    if not answer["hosts"]:
        raise refuse(f"inventory {_names(sources)}", "names no host", "add one, or choose others")
    hosts = []
    for name, found in answer["hosts"].items():
        unknown = list(_unevaluated(name, found["unevaluated"]))
        faults += unknown
        host = _host(name, found["variables"], faults)
        hosts += [] if unknown else [host]
    return Inventory(tuple(hosts), tuple(faults))


def _name_and_port(subject: str, text: str) -> tuple[str, int | None]:
    """Tell the port from the name; a bare IPv6 address is all name."""
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or not _is_v6(name):
            raise refuse(subject, "is not an IPv6 address in brackets", _FORM)
        return name, _port(subject, rest[1:]) if rest else None
    if text.count(":") > 1:
        if not _is_v6(text):
            raise refuse(subject, "is not an IPv6 address", _FORM)
        return text, None
    name, colon, port = text.partition(":")
    return name, _port(subject, port) if colon else None


def _is_v6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _port(subject: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise refuse(subject, f"has a port that is not a number from 1 to 65535: {text or '(empty)'}", _FORM)
    return int(text)


def _check(source: str) -> Iterator[Refusal]:
    """Faults that are found without Ansible: no such file, or YAML that is broken anywhere beside the inventory."""
    if "," in source:
        return
    path = Path(source).expanduser()
    if not path.exists():
        yield Refusal(f"inventory {source}", "does not exist", "check the path after -i")
        return
    folder = path if path.is_dir() else path.parent
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    variables = [file for name in ("group_vars", "host_vars") for file in sorted((folder / name).rglob("*"))]
    for file in (*files, *variables):
        named = file.suffix in (".yml", ".yaml", ".json") or (file in variables and not file.suffix)
        if file.is_file() and named and not file.name.startswith("."):
            yield from check_yaml(file)


def _absolute(source: str) -> str:
    return source if "," in source else str(Path(source).expanduser().absolute())


def _names(sources: Sequence[Path | str]) -> str:
    return ", ".join(map(str, sources))


def _ask(request: Mapping[str, Any]) -> dict[str, Any]:
    """Let the reader, in its own process, do what only Ansible can."""
    command = [sys.executable, "-m", "provision.inventory_reader"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(request),
            capture_output=True,
            text=True,
            env={**os.environ, **_STRICT},
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        subject = f"inventory {_names(request['sources'])}"
        raise refuse(subject, f"was not read within {_PATIENCE} s", "run ansible-inventory --list -i on it") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise refuse(f"inventory {_names(request['sources'])}", f"cannot be read: {last}", "run: provision doctor")
    return {**json.loads(done.stdout), "stderr": done.stderr}


def _told(error: str, stderr: str, sources: Sequence[Path | str], known: Sequence[str]) -> ProvisionError:
    """Ansible's complaint, as a refusal that names the file or the host."""
    pattern = re.search(r"Could not match supplied host pattern, ignoring: (\S+)", error)
    if pattern:
        hint = did_you_mean(pattern[1], known, f"the inventory has {', '.join(known[:8]) or 'no host'}")
        return refuse(f"host {pattern[1]}", "is neither a host nor a group of the inventory", hint)
    broken = re.search(r"Completely failed to parse inventory source (.+)", error)
    if broken:
        # One plugin after the other has tried; the complaint of the one that the file was meant for counts.
        wanted = "yaml" if broken[1].endswith((".yml", ".yaml", ".json")) else "(?:script|ini|toml)"
        told = re.search(rf"Failed to parse inventory with '{wanted}' plugin: (.+)", stderr)
        fact = told[1].removeprefix("Failed to parse inventory: ") if told else "no inventory plugin can read it"
        return refuse(f"inventory {broken[1]}", f"is not an inventory: {_plain(fact)}", "mend it, and try again")
    if "vault" in error.lower() or "decrypt" in error.lower():
        return refuse(f"inventory {_names(sources)}", f"is encrypted: {error}", _vault_hint(error))
    return refuse(f"inventory {_names(sources)}", f"cannot be read: {error}", "run ansible-inventory --list -i on it")


def _vault_hint(error: str) -> str:
    """Ansible tells having no password (`no vault secrets found`) from having none that fits."""
    none = "no vault secrets found" in error
    return "add --ask-vault-pass" if none else "the vault password does not fit: give the one it was encrypted with"


def _plain(fact: str) -> str:
    """Without the class names of Ansible's own data types."""
    return re.sub(r"<class '[\w.]*_AnsibleTagged(\w+)'>", lambda found: found[1].lower(), fact)


def _unevaluated(name: str, found: Mapping[str, str]) -> Iterator[Refusal]:
    """What could not be evaluated among the variables that provision reads itself; somebody's own do not matter."""
    settings = load_registry().settings
    for key, why in found.items():
        if key in settings or key == "tier" or key.startswith("ansible_"):
            vault = "vault" in why or "decrypt" in why
            hint = _vault_hint(why) if vault else "write the value itself; the host has not been looked at yet"
            yield Refusal(f"inventory {name} {key}", f"cannot be evaluated: {why}", hint)


def _host(name: str, variables: Mapping[str, Any], faults: list[Refusal]) -> Host:
    faults += refusals(missing_files(variables), lambda _: f"inventory {name}")
    port = variables.get("ansible_port", variables.get("ansible_ssh_port"))
    if port is not None and not re.fullmatch(r"[0-9]{1,5}", str(port)):
        faults.append(Refusal(f"inventory {name} ansible_port", f"is not a port: {port}", "give a number up to 65535"))
        port = None
    return Host(
        name=name,
        address=_text(variables, "ansible_host", "ansible_ssh_host"),
        port=int(port) if port is not None else None,
        user=_text(variables, "ansible_user", "ansible_ssh_user"),
        identity_file=_text(variables, "ansible_ssh_private_key_file", "ansible_private_key_file"),
        ssh_args=_ssh_args(name, variables, faults),
        variables=variables,
    )


def _text(variables: Mapping[str, Any], *names: str) -> str | None:
    return next((str(variables[name]) for name in names if variables.get(name) not in (None, "")), None)


def _ssh_args(name: str, variables: Mapping[str, Any], faults: list[Refusal]) -> tuple[str, ...]:
    """What the inventory adds to every ssh command line, split as a shell would."""
    found: list[str] = []
    for key in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        try:
            found += shlex.split(str(variables.get(key) or ""))
        except ValueError as error:
            faults.append(Refusal(f"inventory {name} {key}", f"is not a command line: {error}", "close the quotation"))
    return tuple(found)

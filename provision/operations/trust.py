"""`provision trust`: a host's key, shown and remembered."""

from __future__ import annotations

from collections.abc import Callable

from provision.engine.trust import fetch_host_key, remember
from provision.errors import refuse
from provision.inventory import parse_target
from provision.report import Report


def trust_host(name: str, fingerprint: str | None, confirm: Callable[[str], bool], *, replace: bool) -> Report:
    """Fetch the key, compare it with `fingerprint` or let a person do so, and remember it."""
    host = parse_target(name)
    key = fetch_host_key(host)
    if fingerprint and key.fingerprint != fingerprint:
        fact = f"shows the key {key.fingerprint}, and not {fingerprint}"
        raise refuse(host.name, fact, "do not connect before you know why; compare with the host's console")
    if not fingerprint and not confirm(f"{key.kind} {key.fingerprint}"):
        raise refuse(host.name, "was not trusted, nothing was remembered", "compare the key on the host's console")
    path, new = remember(host, key, replace=replace)
    row = {"host": host.name, "kind": key.kind, "fingerprint": key.fingerprint, "already_known": not new,
           "remembered_in": str(path)}  # fmt: skip
    return Report("trust", data={"keys": [row]}, next_steps=(f"provision plan --tier budget {name}",))

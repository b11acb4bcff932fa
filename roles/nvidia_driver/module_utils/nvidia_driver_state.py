"""What the role remembers on the host: the locked closure, its predecessor with their packages, and the journal.

`closure.json` is what is locked now. `cache/ID/` holds a closure with its packages. `journal.json` says how far a move
has come: `stage` is `installing`, `awaiting-reboot`, `proved` (the loaded module was seen to fit), `installed` (nothing
to judge it by, `why` says what is missing), `removed` (the first one could not be installed) or `stranded` (it does not
work and there is no way back).
"""

from __future__ import annotations

import json
import os
import shutil

from ansible.module_utils.provision_io import atomic_write

ROOT = "/var/lib/provision/nvidia_driver"
# Its name is the first of all: apt follows the first record that speaks of a version, NVIDIA's pinning packages' too.
PREFERENCES = "/etc/apt/preferences.d/00-provision-nvidia"
BLACKLIST = "/etc/apt/apt.conf.d/53provision-nvidia"
SETTLED = ("proved", "installed")


def cache(identity):
    return os.path.join(ROOT, "cache", identity)


def read_text(path):
    """A file's content, or None where there is none."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError:
        return None


def read_json(path):
    """The document, or None where there is none or it was cut short."""
    try:
        return json.loads(read_text(path) or "")
    except ValueError:
        return None


def write_json(path, document):
    atomic_write(path, json.dumps(document, indent=1, sort_keys=True) + "\n")


def current():
    """The locked closure, or None."""
    return read_json(os.path.join(ROOT, "closure.json"))


def kept(identity):
    """A closure whose packages are kept, or None."""
    return read_json(os.path.join(cache(identity), "closure.json")) if identity else None


def journal():
    return read_json(os.path.join(ROOT, "journal.json")) or {}


def keep(closure):
    write_json(os.path.join(cache(closure["id"]), "closure.json"), closure)


def note(**entries):
    """Write the journal anew; what failed here before stays known."""
    failed = entries.pop("failed", None) or journal().get("failed")
    document = dict(entries, **({"failed": failed} if failed else {}))
    write_json(os.path.join(ROOT, "journal.json"), document)
    return document


def make_current(closure):
    write_json(os.path.join(ROOT, "closure.json"), closure)


def prune(identities):
    """Drop the packages of every closure but these."""
    folder = os.path.join(ROOT, "cache")
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        if name not in identities:
            shutil.rmtree(os.path.join(folder, name))


def boot_id():
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()

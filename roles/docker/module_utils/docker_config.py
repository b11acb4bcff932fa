"""How daemon.json is merged, and what may not stand beside it.

Pure functions for the target's Python 3.8: text and dicts in, text and dicts out.
"""

from __future__ import annotations

import json

# dockerd's short flags and its plural keys; every other flag carries the name of its key in daemon.json.
FLAG_KEYS = {
    "D": "debug",
    "G": "group",
    "H": "hosts",
    "b": "bridge",
    "g": "data-root",
    "l": "log-level",
    "p": "pidfile",
    "s": "storage-driver",
    "add-runtime": "runtimes",
    "authorization-plugin": "authorization-plugins",
    "default-address-pool": "default-address-pools",
    "default-ulimit": "default-ulimits",
    "dns-opt": "dns-opts",
    "exec-opt": "exec-opts",
    "graph": "data-root",
    "host": "hosts",
    "insecure-registry": "insecure-registries",
    "label": "labels",
    "log-opt": "log-opts",
    "node-generic-resource": "node-generic-resources",
    "registry-mirror": "registry-mirrors",
    "storage-opt": "storage-opts",
}
# The only key that dockerd lets stand in both places.
SHARED_KEYS = ("runtimes",)


def parse(path, text):
    """The object in a daemon.json; an empty file is an empty object, as it is for dockerd.

    Raises:
        ValueError: naming file, line and fault.
    """
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError("%s line %d column %d: %s" % (path, error.lineno, error.colno, error.msg)) from error
    if not isinstance(found, dict):
        raise ValueError("%s line 1: an object is expected, this is a %s" % (path, type(found).__name__))
    return found


def with_texts(declared):
    """The same with every log option as the text dockerd asks for: 3 is an error there, "3" is not."""
    if not isinstance(declared.get("log-opts"), dict):
        return declared
    options = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in declared["log-opts"].items()
    }
    return dict(declared, **{"log-opts": options})


def leaves(tree, prefix=()):
    """The paths of everything in `tree` that is not a filled dict, in a stable order."""
    found = []
    for key in sorted(tree):
        path = (*prefix, key)
        value = tree[key]
        found += leaves(value, path) if isinstance(value, dict) and value else [path]
    return found


def without(tree, path):
    """A copy of `tree` without the leaf at `path` and without dicts that became empty by that."""
    key, rest = path[0], path[1:]
    if key not in tree:
        return tree
    pruned = {name: value for name, value in tree.items() if name != key}
    if rest:
        inner = without(tree[key], rest) if isinstance(tree[key], dict) else tree[key]
        if inner != {}:
            pruned = {name: inner if name == key else value for name, value in tree.items()}
    return pruned


def overlay(tree, declared):
    """`declared` over `tree`: dicts meet key by key, everything else is replaced."""
    merged = dict(tree)
    for key, value in declared.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = overlay(merged[key], value) if both else value
    return merged


def merge(found, declared, owned):
    """The daemon.json to be: what is declared, what others wrote, minus what was ours and is declared no more.

    Another log driver's options are dropped with it: dockerd refuses options that its driver does not know.
    """
    wanted = leaves(declared)
    for path in owned:
        if tuple(path) not in wanted:
            found = without(found, path)
    if found.get("log-driver", declared.get("log-driver")) != declared.get("log-driver", found.get("log-driver")):
        found = without(found, ("log-opts",))
    return overlay(found, declared)


def render(merged):
    return json.dumps(merged, indent=2, sort_keys=True) + "\n"


def flags(words):
    """Yield `(key in daemon.json, flag as written, origin)` of a command line given as `(word, origin)` pairs."""
    for word, origin in words:
        if word.startswith("-") and word.strip("-"):
            flag = word.split("=", 1)[0]
            name = flag.lstrip("-") if flag.startswith("--") else flag[1:2]
            yield FLAG_KEYS.get(name, name), flag, origin


def conflicts(words, merged):
    """The flags of a command line that daemon.json sets too: dockerd does not start with both."""
    return [(key, flag, origin) for key, flag, origin in flags(words) if key in merged and key not in SHARED_KEYS]

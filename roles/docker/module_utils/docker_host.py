"""What docker_look asks the host. Nothing here changes anything."""

from __future__ import annotations

import glob
import json
import os
import shlex

MEMBERS = "/var/lib/provision/docker/members.json"
UNIT_DIRECTORIES = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
# What Docker's and Debian's units both start, for a host that has neither yet.
PACKAGED = [("-H", "the packaged docker.service"), ("--containerd", "the packaged docker.service")]


def members_record():
    """Whom docker_members put into the group docker."""
    if not os.path.exists(MEMBERS):
        return []
    with open(MEMBERS, encoding="utf-8") as stream:
        return json.load(stream)


def lines_of(path):
    """A unit's or environment file's lines, continuations joined, comments dropped."""
    with open(path, encoding="utf-8", errors="replace") as stream:
        text = stream.read().replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and line.strip()[0] not in "#;"]


def unit_files():
    """docker.service and its drop-ins in the order systemd reads them: by file name, nearer directories win."""
    files = [os.path.join(directory, "docker.service") for directory in UNIT_DIRECTORIES]
    units = [path for path in files if os.path.exists(path)][:1]
    drop_ins = {}
    for directory in reversed(UNIT_DIRECTORIES):
        for path in glob.glob(os.path.join(directory, "docker.service.d", "*.conf")):
            drop_ins[os.path.basename(path)] = path
    return units, [drop_ins[name] for name in sorted(drop_ins)]


def daemon_words():
    """The words of dockerd's command line as `(word, file it comes from)`, environment files expanded."""
    units, drop_ins = unit_files()
    words = [] if units else list(PACKAGED)
    environment = {}
    for path in units + drop_ins:
        for line in lines_of(path):
            name, _, value = line.partition("=")
            if name == "EnvironmentFile":
                environment.update(environment_file(value.lstrip("-")))
            elif name == "Environment":
                pairs = [word.partition("=") for word in shlex.split(value)]
                environment.update({key: (text, path) for key, _, text in pairs})
            elif name == "ExecStart":
                words = [(word, path) for word in shlex.split(value)] if value else []
    return [pair for word, path in words for pair in expand(word, path, environment)]


def environment_file(path):
    if not os.path.exists(path):
        return {}
    pairs = [line.partition("=") for line in lines_of(path)]
    return {key: (" ".join(shlex.split(value)), path) for key, _, value in pairs}


def expand(word, path, environment):
    """systemd splits an unbraced `$NAME` that stands alone into words; flags come in no other way."""
    if not word.startswith("$"):
        return [(word, path)]
    text, origin = environment.get(word.strip("${}"), ("", path))
    return [(part, origin) for part in text.split()]

#!/usr/bin/python
"""Everything the role has to know about Docker on the host, read in one module run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_look
short_description: Read what Docker is on this host and what the declared state asks for; change nothing
description:
  - Chooses the route (Docker's repository or the distribution), fetches and judges the repository's key, merges
    daemon.json, and refuses what would leave a daemon that does not start.
  - One execution instead of a dozen, and the same answers in check mode on a host that has no Docker yet.
options:
  source:
    description: C(docker), C(distribution), or C(auto), which stays with what is installed, else asks the repository.
    type: str
    choices: [auto, docker, distribution]
    required: true
  repository_url:
    description: The repository for this distribution; empty where Docker publishes none for its release.
    type: str
    required: true
  codename:
    description: The release's code name, a suite of the repository.
    type: str
    required: true
  key_url:
    description: Where the repository's public key is fetched.
    type: str
    required: true
  key_fingerprint:
    description: Full fingerprint that the key must have.
    type: str
    required: true
  version:
    description: Engine version to hold, empty for none.
    type: str
    default: ""
  daemon:
    description: What daemon.json shall say.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Look at Docker on the host
  docker_look:
    source: auto
    repository_url: https://download.docker.com/linux/debian
    codename: bookworm
    key_url: https://download.docker.com/linux/debian/gpg
    key_fingerprint: 9DC858229FC7DD38854AE2D88D81803C0EBFCD88
    daemon: {live-restore: true}
"""

RETURN = r"""
source:
  description: The route, C(docker) or C(distribution).
  type: str
  returned: always
msg:
  description: Why that route, and what an operator should know before the change.
  type: str
  returned: always
fresh:
  description: Whether the route's engine is not installed yet.
  type: bool
  returned: always
active:
  description: Whether the daemon runs.
  type: bool
  returned: always
packages:
  description: What shall be installed, in the words of M(provision_packages).
  type: list
  returned: always
rivals:
  description: Installed packages of the other route, which go when the engine comes.
  type: list
  returned: always
repository:
  description: Docker's repository as C(key), C(architecture) and C(absent), the files to remove.
  type: dict
  returned: always
members:
  description: The users whom an earlier run brought into the group C(docker).
  type: list
  returned: always
daemon_json:
  description: What daemon.json shall say; C(daemon_json_mode) is its mode.
  type: str
  returned: always
daemon_json_found:
  description: What stood there before this role first wrote; empty where nothing did, or an earlier run kept it.
  type: str
  returned: always
owned_json:
  description: The record of which of its keys are this role's.
  type: str
  returned: always
moves:
  description: The old data-root as C(source) and the new one as C(target), where there is something to move.
  type: list
  returned: always
"""

import glob
import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.docker_config import conflicts, leaves, merge, parse, render, with_texts
from ansible.module_utils.docker_host import daemon_words, members_record
from ansible.module_utils.provision_apt import (
    candidates,
    installed,
    reachable,
    rival_sources,
    text_of,
    trusted_key,
)

KEYRING = "/etc/apt/keyrings/docker.asc"
PIN = "/etc/apt/preferences.d/docker.pref"
REPOSITORY_FILES = ("/etc/apt/sources.list.d/docker.sources", PIN, KEYRING)
DAEMON_JSON = "/etc/docker/daemon.json"
OWNED = "/var/lib/provision/docker/owned.json"
SNAP = "/snap/docker/current"
DEFAULT_ROOT = "/var/lib/docker"
DATA = ("containers/*", "image/*/imagedb/content/sha256/*", "volumes/*/_data")

ENGINE = {"docker": "docker-ce", "distribution": "docker.io"}
ORIGIN = {"docker": "Docker's repository", "distribution": "the distribution"}
CE = ["docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin", "docker-compose-plugin"]
DISTRIBUTION = [
    "docker.io",
    "docker-cli",
    "docker-compose-v2",
    "docker-compose",
    "docker-buildx",
    "docker-doc",
    "podman-docker",
    "containerd",
    "runc",
]
RIVALS = {"docker": DISTRIBUTION, "distribution": [*CE, "docker-ce-rootless-extras", "podman-docker"]}
COMPOSE = ("docker-compose-v2", "docker-compose")
APART = ("docker-cli", "docker-buildx")  # where the distribution has them as packages of their own
PINNED = ("docker-ce", "docker-ce-cli", "docker.io")


def route(params, have):
    """The route and why. What is installed decides before the network does, so that a run never flips a host."""
    if params["source"] != "auto":
        return params["source"], "docker_source says so"
    for source, engine in sorted(ENGINE.items()):
        if engine in have:
            return source, "%s is installed" % engine
    if not params["repository_url"]:
        return "distribution", "Docker publishes no packages for %s" % params["codename"]
    for url in ("%s/dists/%s/Release" % (params["repository_url"], params["codename"]), params["key_url"]):
        fault = reachable(url)
        if fault:
            return "distribution", "%s does not answer (%s)" % (url, fault)
    return "docker", "%s answers" % params["repository_url"]


def key(module):
    """The repository's key as text."""
    try:
        return trusted_key(KEYRING, module.params["key_url"], module.params["key_fingerprint"])
    except ValueError as error:
        module.fail_json(
            msg="Docker's repository %s. Set docker_repository_key_url to a copy that this host reaches, "
            "docker_repository_key_fingerprint to the key of your mirror if you trust it, "
            "or docker_source to distribution." % error
        )


def packages(module, source, have):
    """What shall be installed, in the words of provision_packages."""
    if source == "docker":
        names = list(CE)
    else:
        known = candidates(module, (*COMPOSE, *APART))
        # Debian 12 has the old docker-compose alone, and no buildx; Debian 13 has the client apart.
        compose = [name for name in COMPOSE if name in have] or [name for name in COMPOSE if name in known]
        names = ["docker.io", *(compose or COMPOSE[-1:])[:1], *(name for name in APART if name in known)]
    pin, epoch = module.params["version"], "5:" if source == "docker" else ""
    if pin:
        names = ["%s=%s%s*" % (name, epoch, pin) if name in PINNED else name for name in names]
    # Where the kernel runs AppArmor, containers do not start without its parser.
    return [*names, "apparmor"]


def stale_sources(module, url):
    """Source files left by an older set-up: apt refuses two Signed-By values for one repository."""
    stale, mixed = rival_sources([url], REPOSITORY_FILES[0])
    for path, line in mixed:
        module.fail_json(
            msg="%s lists Docker's repository among others, and apt refuses one repository with two keys. "
            "Remove this line from it: %s" % (path, line)
        )
    return stale


def daemon(module, declared):
    """daemon.json before and after, and the record of which of its keys are ours."""
    text = text_of(DAEMON_JSON)
    try:
        found = parse(DAEMON_JSON, text)
        owned = parse(OWNED, text_of(OWNED))
    except ValueError as error:
        module.fail_json(msg="%s. It is not valid JSON: mend it or move it away; nothing was changed." % error)
    merged = merge(found, declared, owned.get("daemon", []))
    record = render({"daemon": [list(path) for path in leaves(declared)]})
    return (
        found,
        merged,
        {
            "daemon_json": text if merged == found and text else render(merged),
            "owned_json": record,
            # Kept once, beside the record: what stood there before this role first wrote.
            "daemon_json_found": text if text and not owned else "",
            # Proxies with passwords may stand in it: a mode that was narrowed stays narrow.
            "daemon_json_mode": "%04o" % (os.stat(DAEMON_JSON).st_mode & 0o777) if text else "0644",
        },
    )


def refuse_snap(module):
    if os.path.exists(SNAP):
        module.fail_json(
            msg="Docker is installed as a snap (%s), and two daemons would share one socket. Save what its containers "
            "hold, then run: snap remove docker" % SNAP
        )


def refuse_flags(module, merged):
    for name, flag, origin in conflicts(daemon_words(), merged):
        module.fail_json(
            msg="dockerd is started with %s (%s) and %s would say %s too: dockerd does not start with both. Remove the "
            "flag there, or the setting here." % (flag, origin, DAEMON_JSON, name)
        )


def refuse_swarm(module, merged, root):
    state = os.path.join(root, "swarm", "docker-state.json")
    if merged.get("live-restore") and os.path.exists(state):
        module.fail_json(
            msg="This host is in a swarm (%s), and dockerd does not start with live-restore then. "
            "Set docker_live_restore: false." % state
        )


def moved_root(module, found, merged):
    """The old data-root and the new one, where the old one has data; refused while containers run from it."""
    old, new = found.get("data-root", DEFAULT_ROOT), merged.get("data-root", DEFAULT_ROOT)
    if old == new or not any(glob.glob(os.path.join(old, pattern)) for pattern in DATA):
        return None
    running = module.run_command(["docker", "ps", "--quiet"])[1].split() if os.path.exists("/run/docker.sock") else []
    if running:
        module.fail_json(
            msg="%d containers run from %s, and a daemon that starts on %s loses sight of them. Stop them first, "
            "or leave docker_data_root as it is." % (len(running), old, new)
        )
    return {"source": old, "target": new}


def repository(module, source):
    """What apt shall know about Docker's repository."""
    unpinned = [PIN] if os.path.exists(PIN) and not module.params["version"] else []
    if source == "docker":
        return {
            "key": key(module),
            "architecture": module.run_command(["dpkg", "--print-architecture"], check_rc=True)[1].strip(),
            "absent": [*stale_sources(module, module.params["repository_url"]), *unpinned],
        }
    return {"key": "", "architecture": "", "absent": [path for path in REPOSITORY_FILES if os.path.lexists(path)]}


def main():
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "str", "choices": ["auto", "docker", "distribution"], "required": True},
            "repository_url": {"type": "str", "required": True},
            "codename": {"type": "str", "required": True},
            "key_url": {"type": "str", "required": True, "no_log": False},
            "key_fingerprint": {"type": "str", "required": True, "no_log": False},
            "version": {"type": "str", "default": ""},
            "daemon": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    refuse_snap(module)
    found, merged, files = daemon(module, with_texts(module.params["daemon"]))
    refuse_flags(module, merged)
    refuse_swarm(module, merged, found.get("data-root", DEFAULT_ROOT))
    move = moved_root(module, found, merged)
    left = move and os.path.isdir(move["target"]) and bool(os.listdir(move["target"]))
    notes = ["images, volumes and stopped containers stay in %(source)s: %(target)s has its own" % move] if left else []
    have = installed(module, sorted({*CE, *DISTRIBUTION, "docker-ce-rootless-extras", "apparmor"}))
    source, why = route(module.params, have)
    fresh = ENGINE[source] not in have
    module.exit_json(
        changed=False,
        msg="; ".join(["packages come from %s: %s" % (ORIGIN[source], why), *notes]),
        source=source,
        fresh=fresh,
        active=module.run_command(["systemctl", "is-active", "docker.service"])[0] == 0,
        packages=packages(module, source, have),
        rivals=[name for name in RIVALS[source] if name in have] if fresh else [],
        repository=repository(module, source),
        members=members_record(),
        moves=[move] if move and not left else [],
        **files,
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
"""Brings what a service holds to another place. See DOCUMENTATION for what becomes of the old copy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_move
short_description: Copy directories to new places, prove the copies, keep the old ones
description:
  - A directory is copied only where the new place is empty or missing. Everything is judged first (room for all of it,
    no container that still runs), and nothing is copied where one of them does not fit.
  - The copy is made beside the new place, compared file by file (contents, owners, modes, times, links) and takes its
    name only when nothing differs. The old directory stays as it was; a warning says how to remove it.
  - Units that use the directories are stopped and left stopped, for the role to start with their new places. Where the
    copy fails they are started again.
options:
  moves:
    description: Each has C(source) and C(target). An empty target moves nothing.
    type: list
    elements: dict
    required: true
  stop:
    description: Units that use the directories.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Move what Docker holds
  provision_move:
    moves: [{source: /var/lib/docker, target: /srv/fast/docker}]
    stop: [docker.socket, docker.service, containerd.service]
"""

RETURN = r"""
moved:
  description: Every copy, as C(source to target).
  type: list
  returned: always
"""

import os
import shutil
import stat

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.provision_disks import stable_names
from ansible.module_utils.provision_io import sha256_of

PARTIAL = ".provision.partial"
# Sockets of the containerd that Docker uses, its own package's and the one that dockerd starts itself.
DOCKERS = (b"/run/containerd/containerd.sock", b"/run/docker/containerd/containerd.sock")
MARGIN = 1.05  # a file system that is nearly full serves nobody


class Trouble(Exception):
    """A sentence with the path and the next step."""


def due(moves):
    """Those that have something to move and an empty place for it."""
    wanted = [(each["source"].rstrip("/"), (each["target"] or "").rstrip("/")) for each in moves]
    return [
        (source, target)
        for source, target in wanted
        if target != source and target and held(source) and not held(target)
    ]


def held(path):
    return os.path.isdir(path) and bool(os.listdir(path))


def size_of(top):
    """Bytes that a tree takes on its disk; a file with several names counts once."""
    seen = set()
    total = 0
    for info in (
        os.lstat(os.path.join(folder, name)) for folder, below, files in os.walk(top) for name in below + files
    ):
        if (info.st_dev, info.st_ino) not in seen:
            seen.add((info.st_dev, info.st_ino))
            total += info.st_blocks * 512
    return total


def existing(path):
    """The nearest directory above a path that is there."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def judge(moves, check=False):
    """Refuse before anything is copied. In check mode a disk that an earlier task would have mounted is not judged.

    Raises:
        Trouble: it does not fit, or containers run.
    """
    needed = {}
    for source, target in moves:
        if check and not os.path.isdir(os.path.dirname(target)):
            continue
        place = existing(target)
        device = os.stat(place).st_dev
        needed.setdefault(device, [place, 0, []])
        needed[device][1] += size_of(source)
        needed[device][2].append(source)
    for device, (place, size, sources) in needed.items():
        room = os.statvfs(place)
        free = room.f_bavail * room.f_frsize
        if size * MARGIN > free:
            where = " on ".join(filter(None, [place, " and ".join(stable_names(device))]))
            told = "%s has %.1f GB free of %.1f GB" % (where, free / 1e9, room.f_blocks * room.f_frsize / 1e9)
            told = "%s, and %s is %.1f GB" % (told, " with ".join(sources), size / 1e9)
            raise Trouble("%s: nothing was copied; make room, or leave the directories where they are" % told)


def containers(proc="/proc"):
    """How many containers of Docker run: each has a shim, which outlives a stopped daemon. k3s has shims of its own."""
    found = 0
    for name in filter(str.isdigit, os.listdir(proc)):
        try:
            with open("%s/%s/cmdline" % (proc, name), "rb") as stream:
                words = stream.read().split(b"\0")
            shim = os.path.basename(words[0]).startswith(b"containerd-shim")
            found += shim and any(word.endswith(DOCKERS) for word in words)
        except OSError:
            continue  # it ended meanwhile
    return found


def difference(old, new):
    """The first path that is not the same in both trees, or nothing."""
    for top, other in ((old, new), (new, old)):
        for folder, below, files in os.walk(top):
            for path in [folder] + [os.path.join(folder, name) for name in below + files]:
                twin = other + path[len(top) :]
                if not os.path.lexists(twin) or (top == old and likeness(path) != likeness(twin)):
                    return path
    return ""


def likeness(path):
    """All that a copy must keep. A directory's times change while it is filled."""
    info = os.lstat(path)
    kept = [info.st_mode, info.st_uid, info.st_gid]
    kept.append(
        {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}
    )
    if stat.S_ISLNK(info.st_mode):
        return [*kept, os.readlink(path)]
    if stat.S_ISREG(info.st_mode):
        return [*kept, info.st_size, info.st_mtime_ns, info.st_nlink, sha256_of(path)]
    return [*kept, info.st_rdev]


def copy(module, source, target):
    partial = target + PARTIAL
    try:
        if os.path.isdir(partial):
            shutil.rmtree(partial)  # of a run that died
        os.makedirs(os.path.dirname(target), exist_ok=True)
        code, _, err = module.run_command(["cp", "--archive", "--no-target-directory", source, partial])
        if code != 0:
            raise Trouble("%s was not copied: %s" % (source, err.strip()))
        wrong = difference(source, partial)
        if wrong:
            raise Trouble(
                "the copy of %s differs at %s: something still writes there, or the disk fails" % (source, wrong)
            )
        if os.path.isdir(target):
            os.rmdir(target)
        os.rename(partial, target)
    except OSError as error:  # a file that went while it was compared, too
        raise Trouble("%s was not copied: %s" % (source, error)) from error
    finally:
        if os.path.isdir(partial):
            shutil.rmtree(partial)


def move(module, moves):
    units = module.params["stop"]
    if units and containers():
        raise Trouble("%d containers run on %s: stop them, and run this again" % (containers(), moves[0][0]))
    if module.check_mode:
        return
    running = [unit for unit in units if module.run_command(["systemctl", "is-active", "--quiet", unit])[0] == 0]
    try:
        if running:
            code, _, err = module.run_command(["systemctl", "stop", *running])
            if code != 0:
                raise Trouble("%s did not stop, and nothing was copied: %s" % (" and ".join(running), err.strip()))
        for source, target in moves:
            copy(module, source, target)
    except Trouble as trouble:
        if running and module.run_command(["systemctl", "start", *running])[0] != 0:
            raise Trouble("%s; and they did not start again: %s" % (trouble, " ".join(running))) from trouble
        raise


def main():
    module = AnsibleModule(
        argument_spec={
            "moves": {"type": "list", "elements": "dict", "required": True},
            "stop": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    moves = due(module.params["moves"])
    try:
        judge(moves, module.check_mode)
        if moves:
            move(module, moves)
    except Trouble as trouble:
        module.fail_json(msg=str(trouble))
    for source, target in moves:
        module.warn("%s is on %s now; when you are content, remove the old copy: rm -r %s" % (source, target, source))
    module.exit_json(changed=bool(moves), moved=["%s to %s" % pair for pair in moves])


if __name__ == "__main__":
    main()

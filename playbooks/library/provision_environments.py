#!/usr/bin/python
"""Isolated Python environments, each exactly its lock, replaced as a whole. See DOCUMENTATION for the layout."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_environments
short_description: Bring isolated Python environments to exactly their hashed locks, in one module run
description:
  - Every environment lives in a directory of its own, C(ROOT/.NAME-KEY), named after its lock and interpreter, and is
    reached through the link C(ROOT/NAME). A virtual environment cannot be moved, so the new one is built at its final
    place beside the old one and the link is switched, atomically, once it is complete. An interrupted or failed build
    leaves the former environment in use.
  - A stamp written last tells a complete environment from the rest of an interrupted build. With nothing to do the
    module reads the stamp and one directory listing, and runs no program.
  - Only wheels are installed, only those that the lock lists by hash. Any index or folder may therefore serve them.
  - Environments under O(root) that are not in O(locks) are left alone and named in RV(undeclared).
options:
  root:
    description: Directory that holds the environments; created when missing.
    type: path
    required: true
  locks:
    description: Requirement locks by environment name, with exact versions and hashes.
    type: dict
    required: true
  python:
    description: V(system) for /usr/bin/python3, or a version such as V(3.12) that uv brings (to /opt/provision/python).
    type: str
    default: system
  uv:
    description: Path of the uv that builds. Empty builds with the system's venv and pip, as uv itself is built.
    type: path
  index_url:
    description:
      - One more index, for packages with a local version such as C(2.13.0+cpu) that the host's own indexes and folders
        lack. Empty adds none.
    type: str
    default: ""
  commands:
    description: Commands of the environments to link into /usr/local/bin. Somebody else's file there is refused.
    type: list
    elements: str
    default: []
  free_mb:
    description:
      - MiB that have to be left under O(root) when everything is built. What a build itself takes is read from its
        lock, from a comment such as C(# 950 MB installed).
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Build the environments
  provision_environments:
    root: /opt/provision/envs
    uv: /opt/provision/uv/bin/uv
    locks: {torch: "{{ lookup('ansible.builtin.file', 'locks/torch-cpu.txt') }}"}
"""

RETURN = r"""
built:
  description: Why each environment was (in check mode, would be) built, by name.
  type: dict
  returned: always
undeclared:
  description: Names of environments that exist under O(root) and are not declared.
  type: list
  returned: always
"""

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule

SYSTEM_PYTHON = "/usr/bin/python3"
COMMANDS = "/usr/local/bin"
INTERPRETERS = "/opt/provision/python"
UV_CONFIGURATION = "/etc/uv/uv.toml"  # not whatever root keeps in its home
STAMP = "provision.json"
LAYOUT = 1  # part of the key: raising it rebuilds every environment


def point(link, target):
    """Make a symbolic link, or switch an existing one, in one atomic step."""
    beside = link + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)
    os.symlink(target, beside)
    os.replace(beside, link)


def essence(said):
    """What a failed program said from its first error on, without the long lists of hashes that a lock allows."""
    lines = said.strip().splitlines()
    start = next((number for number, line in enumerate(lines) if line.lower().startswith("error")), 0)
    text = "\n".join(line.rstrip() for line in lines[start:] if line.strip())
    return re.sub(r"(\n *sha256:[0-9a-f]{64}){3,}", "\n (one of those in the lock)", text)[-1500:]


class Environment:
    """One declared environment: where it belongs, what is wrong with it, how it is built."""

    def __init__(self, module, name, lock):
        self.module = module
        self.name = name
        self.lock = lock
        self.uv = module.params["uv"]
        python = module.params["python"]
        # The interpreter behind the system's python3 is part of the key: a release upgrade changes it.
        self.python = os.path.realpath(SYSTEM_PYTHON) if python == "system" else python
        known = json.dumps([LAYOUT, self.python, bool(self.uv), lock])
        root = module.params["root"]
        self.link = os.path.join(root, name)
        self.home = os.path.join(root, ".%s-%s" % (name, hashlib.sha256(known.encode()).hexdigest()[:12]))

    def distributions(self):
        """Names of the installed distributions' metadata directories."""
        found = glob.glob(os.path.join(self.home, "lib", "python*", "site-packages", "*.dist-info"))
        return sorted(os.path.basename(path) for path in found)

    def fault(self):
        """Why the environment has to be built, or an empty string when its place holds a complete one."""
        if not os.path.isdir(self.home):
            return "its lock or interpreter is new here" if os.path.islink(self.link) else "it is not there"
        try:
            with open(os.path.join(self.home, STAMP)) as stream:
                stamp = json.load(stream)
        except (OSError, ValueError):
            return "an earlier build of it was not finished"
        if not os.path.exists(os.path.join(self.home, "bin", "python")):
            return "its interpreter is gone"
        changed = set(stamp["distributions"]) ^ set(self.distributions())
        return "packages were added or removed: %s" % ", ".join(sorted(changed)) if changed else ""

    def outcome(self, *command):
        """Exit status, output and errors of a program that sees the host's indexes and nobody's own settings."""
        settings = {"PIP_CONFIG_FILE": "/etc/xdg/pip/pip.conf", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        if self.uv:
            # One file system with the environments: files are hard-linked from the cache, not copied.
            settings = {"UV_CACHE_DIR": os.path.join(self.module.params["root"], ".cache"), "UV_NO_PROGRESS": "1"}
            settings["UV_PYTHON_INSTALL_DIR"] = INTERPRETERS
            settings["UV_CONFIG_FILE"] = UV_CONFIGURATION if os.path.exists(UV_CONFIGURATION) else os.devnull
            settings["UV_HTTP_RETRIES"] = "5"  # wheels of gigabytes over lossy lines
        return self.module.run_command(list(command), environ_update=settings, cwd="/")

    def run(self, *command):
        code, out, err = self.outcome(*command)
        if code != 0:
            shutil.rmtree(self.home, ignore_errors=True)
            kept = "The former one stays in use. " if os.path.exists(self.link) else ""
            told = (self.name, kept, os.path.basename(command[0]), essence(err or out))
            self.module.fail_json(msg="environment %s was not built. %s%s said: %s" % told)

    def build(self):
        if os.path.islink(self.link) and os.readlink(self.link) == os.path.basename(self.home):
            os.unlink(self.link)  # a broken environment is mended in its place: nothing may lead to the half of it
        shutil.rmtree(self.home, ignore_errors=True)
        if self.uv:
            self.build_with_uv()
        else:
            self.run(SYSTEM_PYTHON, "-m", "venv", self.home)
            install = [os.path.join(self.home, "bin", "python"), "-m", "pip", "install", "--no-cache-dir"]
            with self.requirements(self.lock) as wanted:
                self.run(*install, "--only-binary", ":all:", *wanted)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.home, ".lock"))  # uv leaves it writable by everybody
        staged = os.path.join(self.home, STAMP + ".new")
        with open(staged, "w") as stream:
            json.dump({"python": self.python, "distributions": self.distributions()}, stream, indent=1)
        os.rename(staged, os.path.join(self.home, STAMP))

    @contextlib.contextmanager
    def requirements(self, lock):
        """Arguments of pip or uv that install exactly what a lock says."""
        with tempfile.NamedTemporaryFile("w", dir=self.module.tmpdir, suffix=".txt") as stream:
            stream.write(lock + "\n")
            stream.flush()
            yield ["--no-deps", "--require-hashes", "--requirement", stream.name]

    def build_with_uv(self):
        origin = ["--managed-python"]
        if self.module.params["python"] == "system":
            origin = ["--no-managed-python", "--no-python-downloads"]
        self.run(self.uv, "venv", "--no-project", *origin, "--python", self.python, self.home)
        # Best match asks each of the host's indexes for each package; the hashes decide what may be installed.
        install = [self.uv, "pip", "install", "--python", os.path.join(self.home, "bin", "python")]
        install += ["--no-build", "--index-strategy", "unsafe-best-match"]
        pins = re.split(r"\n(?=\S)", self.lock)
        # A local version (2.13.0+cpu) is what PyPI refuses: only such packages may come from the further index.
        local = [pin for pin in pins if "+" in pin.split()[0]]
        if local:
            with self.requirements("\n".join(local)) as wanted:
                index = self.module.params["index_url"]
                # A closed network serves them itself and reaches no other index.
                near = not index or self.outcome(*install, "--dry-run", *wanted)[0] == 0
                self.run(*install, *([] if near else ["--index", index]), *wanted)
        with self.requirements("\n".join(pin for pin in pins if pin not in local)) as wanted:
            self.run(*install, "--compile-bytecode", *wanted)

    def former(self):
        """Directories that earlier locks of this environment left beside it."""
        ours = re.compile(r"\.%s-[0-9a-f]{12}" % re.escape(self.name))
        root, current = os.path.split(self.home)
        names = os.listdir(root) if os.path.isdir(root) else []
        return [os.path.join(root, name) for name in names if ours.fullmatch(name) and name != current]


def wanted_links(module, environments):
    """Link path -> target for every environment and for the commands that one of them offers."""
    links = {env.link: os.path.basename(env.home) for env in environments}
    for command in module.params["commands"]:
        links[os.path.join(COMMANDS, command)] = os.path.join(environments[0].link, "bin", command)
    for link, target in links.items():
        if os.path.lexists(link) and not os.path.islink(link):
            module.fail_json(msg="%s is in the way: it is not a link to %s. Move it away first" % (link, target))
    return {link: to for link, to in links.items() if not os.path.islink(link) or os.readlink(link) != to}


def undeclared(module):
    """Environments of this layout that the module was not told about."""
    found = []
    for link in glob.glob(os.path.join(module.params["root"], "*")):
        name = os.path.basename(link)
        if os.path.islink(link) and name not in module.params["locks"] and os.readlink(link).startswith(".%s-" % name):
            found.append(name)
    return sorted(found)


def need_space(module, environments):
    sizes = [re.search(r"^# ([0-9]+) MB installed", env.lock, re.MULTILINE) for env in environments]
    needed = module.params["free_mb"] + sum(int(size.group(1)) for size in sizes if size)
    free = shutil.disk_usage(module.params["root"]).free // 1048576
    if free < needed:
        told = (module.params["root"], free, needed)
        module.fail_json(msg="%s has %d MiB free and %d are needed. Nothing was changed: make room first" % told)


@contextlib.contextmanager
def alone(root):
    """Two applies of one host at the same time take turns."""
    with open(os.path.join(root, ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def converge(module, environments):
    """Build what is not right, switch the links, and only then remove what no link leads to any more."""
    root = module.params["root"]
    # What login umask a host has must not decide whether the service user can read an environment.
    os.umask(0o022)
    os.makedirs(root, exist_ok=True)
    with alone(root):
        faulty = [env for env in environments if env.fault()]
        if faulty:
            need_space(module, faulty)
        for env in faulty:
            env.build()
        for link, target in wanted_links(module, environments).items():
            point(link, target)
        for env in environments:
            for path in env.former():
                shutil.rmtree(path)
        # Only an interrupted or failed build leaves a cache: the next one goes on from it.
        shutil.rmtree(os.path.join(root, ".cache"), ignore_errors=True)


def main():
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "locks": {"type": "dict", "required": True},
            "python": {"type": "str", "default": "system"},
            "uv": {"type": "path"},
            "index_url": {"type": "str", "default": ""},
            "commands": {"type": "list", "elements": "str", "default": []},
            "free_mb": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    for name in module.params["locks"]:
        if not re.fullmatch("[a-z0-9][a-z0-9_-]*", name):
            module.fail_json(msg="%r names no environment: use lower case letters, digits, dashes, underscores" % name)
    environments = [Environment(module, name, lock) for name, lock in module.params["locks"].items()]
    built = {env.name: env.fault() for env in environments if env.fault()}
    links = wanted_links(module, environments)
    left = [path for env in environments for path in env.former()]
    changed = bool(built or links or left)
    if changed and not module.check_mode:
        converge(module, environments)
    module.exit_json(changed=changed, built=built, undeclared=undeclared(module))


if __name__ == "__main__":
    main()

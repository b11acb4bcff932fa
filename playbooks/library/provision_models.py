#!/usr/bin/python
"""A manifest of pinned models, brought and proved in one module run. See DOCUMENTATION for what is trusted when."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_models
short_description: Hold a manifest of models, pinned by commit and checksum, in a shared hub cache
description:
  - A file counts as right when its sha256 was compared with the manifest and nothing was written to it since. What
    was compared is kept with the file's size, times and inode in O(record), which only root can write, so that a run
    without a change stats the files instead of reading them. One of the times is the change time, which only the
    kernel sets.
  - A file that is missing or wrong is brought by O(program), which runs as O(user), never as root. It proves every
    file before it enters the cache, and goes on from what an interrupted run left.
  - Models and files that the manifest no longer names stay in the cache.
options:
  models:
    description: The manifest. O(models[].include) adds files by glob, proved against the hub's own checksums.
    type: list
    elements: dict
    required: true
  cache: {description: The hub cache directory, type: path, required: true}
  user: {description: Account that downloads; never root, type: str, required: true}
  python: {description: Interpreter of the environment that holds huggingface_hub, type: path, required: true}
  program: {description: The program that brings one model, type: path, required: true}
  record: {description: File that keeps what was proved, type: path, required: true}
  endpoint: {description: Address of the hub, type: str, required: true}
  token: {description: Access token for private repositories. It travels over stdin only, type: str, default: ""}
  offline: {description: Only verify; a file that is missing or wrong is a failure, type: bool, default: false}
  verify:
    description: V(stat) trusts the record where nothing was written since, V(full) reads every file again.
    type: str
    choices: [stat, full]
    default: stat
  reserve_bytes: {description: Bytes that have to stay free on the cache's file system, type: int, default: 0}
"""

EXAMPLES = r"""
- name: Hold the declared models
  provision_models:
    models: "{{ model_cache_models }}"
    cache: /srv/models/huggingface/hub
    user: ml
    python: /opt/provision/hf/bin/python
    program: /opt/provision/model_cache/fetch.py
    record: /var/lib/provision/model_cache.json
    endpoint: https://huggingface.co
"""

RETURN = r"""
downloaded:
  description: The files that were (in check mode, would be) brought, as C(REPO PATH).
  type: list
  returned: always
bytes: {description: Size of the files that were brought, type: int, returned: always}
resumed: {description: Bytes of them that an earlier run had left, type: int, returned: always}
"""

import json
import os
import pwd
import stat
import subprocess
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.provision_io import atomic_write, sha256_of

MODEL_SPEC = {
    "repo": {"type": "str", "required": True},
    "revision": {"type": "str", "required": True},
    "files": {"type": "dict", "required": True},
    "include": {"type": "list", "elements": "str", "default": []},
}


def identity(path):
    """What changes with every write to a file; None where there is no regular file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


class Model:
    """One entry of the manifest, and what the cache holds of it."""

    def __init__(self, module, entry, record):
        self.module = module
        self.entry = entry
        self.key = "%s@%s" % (entry["repo"], entry["revision"])
        known = record.get(self.key, {})
        self.listed = not entry["include"] or known.get("include") == entry["include"]
        self.known = known.get("files", {})
        # Which files the globs meant was learnt when they were brought.
        included = self.known if entry["include"] and self.listed else {}
        self.expected = dict({path: held["sha256"] for path, held in included.items()}, **entry["files"])
        self.good = {}
        self.seen = {}
        self.absent = []
        self.wrong = {}

    def path(self, path):
        storage = "models--" + self.entry["repo"].replace("/", "--")
        return os.path.join(self.module.params["cache"], storage, "snapshots", self.entry["revision"], path)

    def look(self):
        """Sort the files into good, absent and wrong; only those that the record cannot vouch for are read."""
        for path, expected in self.expected.items():
            place = self.path(path)
            now = identity(place)
            if now is None:
                self.absent.append(path)
                continue
            # Taken before the file is read: what is written meanwhile is noticed by the next run.
            self.seen[path] = now
            held = self.known.get(path, {})
            trusted = self.module.params["verify"] == "stat" and held.get("identity") == now
            got = held["sha256"] if trusted else sha256_of(place)
            if got == expected:
                self.good[path] = got
            else:
                self.wrong[path] = got
        return self

    @property
    def owed(self):
        # Without the hub nobody can say what the globs mean: offline, the pinned files are what is judged.
        return bool(self.absent or self.wrong or not (self.listed or self.module.params["offline"]))

    def recorded(self):
        """What the record keeps of the files that are right."""
        files = {path: {"sha256": sha256, "identity": self.seen[path]} for path, sha256 in self.good.items()}
        return {"include": self.entry["include"] if self.listed else None, "files": files}

    def faults(self):
        """What is owed, as sentences."""
        repo = self.entry["repo"]
        found = {path: "got %s" % got for path, got in self.wrong.items()}
        found.update(dict.fromkeys(self.absent, "it is not there"))
        return ["%s %s: expected %s, %s" % (repo, path, self.expected[path], found[path]) for path in sorted(found)]

    def bring(self):
        """Let the program bring what is owed. Returns its answer."""
        params = self.module.params
        request = {name: params[name] for name in ("cache", "endpoint", "token", "reserve_bytes")}
        request.update(self.entry, good=self.good, bad=sorted(self.wrong))
        answer = run_as_user(self.module, request)
        if "failed" not in answer:
            self.seen.update({path: identity(self.path(path)) for path in answer["files"] if path not in self.good})
            self.good = answer["files"]
            self.listed = True
        return answer


def run_as_user(module, request):
    """Run the program as the cache's user; the token goes over stdin, where no other user can see it."""
    params = module.params
    account = pwd.getpwnam(params["user"])
    if account.pw_uid == 0:
        module.fail_json(msg="models are not downloaded as root: name another account than %s" % params["user"])
    passed = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE")
    environment = {name: os.environ[name] for name in passed if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="provision-models-") as home:
        os.chown(home, account.pw_uid, account.pw_gid)
        # A home of its own for the run: no token and no setting of anybody's account is picked up.
        environment.update(PATH="/usr/bin:/bin", LC_ALL="C.UTF-8", HOME=home, HF_HOME=home)
        environment.update(HF_HUB_CACHE=params["cache"], HF_ENDPOINT=params["endpoint"])
        for switch in ("TELEMETRY", "PROGRESS_BARS", "IMPLICIT_TOKEN", "UPDATE_CHECK"):
            environment["HF_HUB_DISABLE_" + switch] = "1"
        command = ["setpriv", "--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--init-groups", "--"]
        done = subprocess.run(
            [*command, params["python"], params["program"]],
            input=json.dumps(request).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=home,
            env=environment,
            check=False,
        )
    try:
        return json.loads(done.stdout.decode())
    except ValueError:
        told = " / ".join(done.stderr.decode(errors="replace").strip().splitlines()[-5:])
        return {"failed": "%s: the download stopped (exit %s): %s" % (request["repo"], done.returncode, told)}


def read_record(path):
    try:
        with open(path) as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return {}


def write_record(module, record):
    """Replace the record where it says something new."""
    path = module.params["record"]
    if record != read_record(path):
        atomic_write(path, json.dumps(record, indent=1, sort_keys=True))


def settle(module, owing, result):
    """Bring what is owed, or only say it. Adds to the result; returns the faults."""
    faults = []
    for model in owing:
        repo = model.entry["repo"]
        if module.params["offline"]:
            faults += ["%s (offline: nothing is downloaded)" % fault for fault in model.faults()]
            continue
        answer = {"downloaded": model.absent + sorted(model.wrong)} if module.check_mode else model.bring()
        if "failed" in answer:
            faults.append(answer["failed"])
        result["downloaded"] += ["%s %s" % (repo, path) for path in answer.get("downloaded", [])]
        result["bytes"] += answer.get("bytes", 0)
        result["resumed"] += answer.get("resumed", 0)
    return faults


def main():
    module = AnsibleModule(
        argument_spec={
            "models": {"type": "list", "elements": "dict", "options": MODEL_SPEC, "required": True},
            "cache": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "python": {"type": "path", "required": True},
            "program": {"type": "path", "required": True},
            "record": {"type": "path", "required": True},
            "endpoint": {"type": "str", "required": True},
            "token": {"type": "str", "default": "", "no_log": True},
            "offline": {"type": "bool", "default": False},
            "verify": {"type": "str", "choices": ["stat", "full"], "default": "stat"},
            "reserve_bytes": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    record = read_record(module.params["record"])
    models = [Model(module, entry, record).look() for entry in module.params["models"]]
    owing = [model for model in models if model.owed]
    result = {"changed": bool(owing), "downloaded": [], "bytes": 0, "resumed": 0}
    faults = settle(module, owing, result)
    if not module.check_mode:
        write_record(module, {model.key: model.recorded() for model in models})
    if faults:
        module.fail_json(msg="\n".join(faults), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

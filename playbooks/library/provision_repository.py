#!/usr/bin/python
"""One task for one third party's apt repository. See DOCUMENTATION for what it promises."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_repository
short_description: Let apt know one third party's repository, by its key's full fingerprint, and nothing that rivals it
description:
  - The key is fetched by the host, and goes nowhere before its full fingerprint is O(key_fingerprint).
  - Other source files of the same archive are removed, since apt refuses two keys for one archive. One that lists other
    archives too is refused by name.
  - What changed is tried at once by reading this repository's lists alone. Where that fails (a bad signature, an
    error of the server, a file cut off) our files become what they were before, so that apt stays usable, and the
    module fails with what apt said. What rivalled the repository stays away.
  - Supports check mode. The result lists C(paths), the paths that changed.
options:
  name:
    description: Stem of the files under /etc/apt that belong to this repository.
    type: str
    required: true
  state:
    description: C(absent) removes those files.
    type: str
    choices: [present, absent]
    default: present
  url:
    description: Address of the repository.
    type: str
    default: ""
  suite:
    description: Suite, or a directory with C(/) at its end for a flat repository.
    type: str
    default: /
  components:
    description: Components of the suite; a flat repository has none.
    type: list
    elements: str
    default: []
  key_url:
    description: Where the ASCII-armored key is fetched.
    type: str
    default: ""
  key_fingerprint:
    description: Full fingerprint of the one key that may sign the repository.
    type: str
    default: ""
  preferences:
    description: What apt shall prefer or refuse about it, as apt_preferences(5) has it; empty for no such file.
    type: str
    default: ""
  preferences_name:
    description: Name of that file under /etc/apt/preferences.d. The first file that speaks of a version wins.
    type: str
    default: ""
  also:
    description: Further addresses under which the same archive is known, such as the public one behind a mirror.
    type: list
    elements: str
    default: []
  retired_keys:
    description: Fingerprints of keys that apt shall no longer trust for anything.
    type: list
    elements: str
    default: []
  leftovers:
    description: Further files, as shell patterns, that an older set-up left and that must go.
    type: list
    elements: str
    default: []
  remedy:
    description: What an operator can do where the repository cannot be used.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Let apt know the repository
  provision_repository:
    name: example
    url: https://apt.example.com/debian
    suite: bookworm
    components: [main]
    key_url: https://apt.example.com/key.asc
    key_fingerprint: 0123456789ABCDEF0123456789ABCDEF01234567
    remedy: Set the address to a mirror that this host reaches.
"""

RETURN = r"""
paths:
  description: The paths that changed (or would change, in check mode).
  type: list
  returned: always
removed:
  description: Those of them that rivalled the repository or were left by an older set-up.
  type: list
  returned: always
"""

import glob
import os
import re
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.provision_apt import PARTS, read, rival_sources, trusted_key
from ansible.module_utils.provision_io import atomic_write
from ansible.module_utils.provision_openpgp import ARMOR, primary_fingerprints, without
from ansible.module_utils.provision_quiet import NETWORK_PATIENCE, QUIET

PENDING = "/var/lib/provision/pending"
PATIENCE = 300  # seconds, for the lock of the lists as for the lists themselves
TRUSTED = ("/etc/apt/trusted.gpg", "/etc/apt/trusted.gpg.d/*.gpg", "/etc/apt/trusted.gpg.d/*.asc")
UNREAD = re.compile(r"^(E: .*|W: (?:Failed to fetch|Some index files failed|An error occurred).*)$", re.MULTILINE)


class Repository:
    """What the repository's files shall be, and how they get there and back."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        name = self.params["name"]
        self.source = "%s/%s.sources" % (PARTS, name)
        self.keyring = "/etc/apt/keyrings/%s.asc" % name
        self.preferences = "/etc/apt/preferences.d/%s" % (self.params["preferences_name"] or name + ".pref")
        self.mark = "%s/repository-%s" % (PENDING, name)

    def wanted(self):
        """Content by path; None where there shall be no file."""
        if self.params["state"] == "absent":
            return {self.source: None, self.preferences: None, self.keyring: None}
        try:
            key = trusted_key(self.keyring, self.params["key_url"], self.params["key_fingerprint"])
        except ValueError as error:
            self.fail("the repository's %s" % error)
        components = " ".join(self.params["components"])
        source = [
            "Types: deb",
            "URIs: %s" % self.params["url"],
            "Suites: %s" % self.params["suite"],
            *(["Components: %s" % components] if components else []),
            "Architectures: %s" % self.command("dpkg", "--print-architecture").strip(),
            "Signed-By: %s" % self.keyring,
        ]
        return {
            self.keyring: key.encode("ascii"),
            self.preferences: self.params["preferences"].encode("utf-8") or None,
            self.source: ("\n".join(source) + "\n").encode("utf-8"),
        }

    def rivals(self):
        """Content by path of what stands in the way: None for each file that goes."""
        wholly, mixed = rival_sources([self.params["url"], *self.params["also"]], self.source)
        for path, line in mixed:
            self.fail(
                "%s lists this repository among others, and apt refuses one repository with two keys: "
                "remove this line from it: %s" % (path, line)
            )
        found = [path for pattern in self.params["leftovers"] for path in sorted(glob.glob(pattern))]
        gone = {path: None for path in [*wholly, *found] if path not in (self.source, self.preferences)}
        for pattern in TRUSTED:
            for path in sorted(glob.glob(pattern)):
                gone.update(self.distrusted(path))
        return gone

    def distrusted(self, path):
        """The keyring at `path` without the retired keys; nothing where it holds none."""
        data, retired = read(path), set(self.params["retired_keys"])
        try:
            found = primary_fingerprints(data)
        except ValueError:
            return {}  # apt cannot read it either
        if not retired & set(found):
            return {}
        if set(found) <= retired:
            return {path: None}
        if ARMOR.search(data):
            self.fail(
                "%s holds a retired key, %s, among others: split the file" % (path, " ".join(retired & set(found)))
            )
        return {path: without(data, retired)}

    def command(self, *argv):
        return self.module.run_command(list(argv), check_rc=True)[1]

    def fail(self, fact):
        self.module.fail_json(msg="%s. %s" % (fact, self.params["remedy"]))

    def read_lists(self):
        """What apt said against this repository's lists; empty where it read them."""
        argv = ["timeout", str(PATIENCE), "apt-get", "update", "--quiet", *NETWORK_PATIENCE]
        # This source alone, and the lists of the others stay.
        only = {"Dir::Etc::sourcelist": self.source, "Dir::Etc::sourceparts": "-", "APT::Get::List-Cleanup": "0"}
        for name, value in only.items():
            argv += ["-o", "%s=%s" % (name, value)]
        deadline = time.time() + PATIENCE
        while True:
            code, out, err = self.module.run_command(argv, environ_update=QUIET)
            if "Could not get lock" not in err or time.time() > deadline:
                break
            time.sleep(1)
        faults = UNREAD.findall(err)
        if code != 0 and not faults:
            faults = (err or out).splitlines()[-5:] or ["nothing arrived within %d s" % PATIENCE]
        return " ".join(dict.fromkeys(faults))

    def put(self, path, content):
        """Bring one file to its content, or away, in one step."""
        if content is not None:
            atomic_write(path, content)
        elif os.path.lexists(path):
            os.unlink(path)

    def apply(self, rivals, ours):
        """Write, try, and take back what does not work."""
        before = {path: current(path) for path in ours}
        os.makedirs(PENDING, mode=0o755, exist_ok=True)
        with open(self.mark, "w"):
            pass
        for path, content in dict(rivals, **ours).items():
            self.put(path, content)
        fault = self.read_lists() if self.params["state"] == "present" else ""
        if fault:
            for path, content in before.items():
                self.put(path, content)
        os.unlink(self.mark)
        if fault:
            self.fail("%s was refused and its source withdrawn: %s" % (self.params["url"], fault))


def changes(files):
    """Those files that are not yet what they shall be."""
    return {path: content for path, content in files.items() if current(path) != content}


def current(path):
    """A file's bytes, or None where there is none."""
    return read(path) if os.path.lexists(path) else None


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "url": {"type": "str", "default": ""},
            "suite": {"type": "str", "default": "/"},
            "components": {"type": "list", "elements": "str", "default": []},
            "key_url": {"type": "str", "default": "", "no_log": False},
            "key_fingerprint": {"type": "str", "default": "", "no_log": False},
            "preferences": {"type": "str", "default": ""},
            "preferences_name": {"type": "str", "default": ""},
            "also": {"type": "list", "elements": "str", "default": []},
            "retired_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "leftovers": {"type": "list", "elements": "str", "default": []},
            "remedy": {"type": "str", "required": True},
        },
        supports_check_mode=True,
        required_if=[("state", "present", ["url", "key_url", "key_fingerprint"])],
    )
    repository = Repository(module)
    rivals = changes(repository.rivals() if module.params["state"] == "present" else {})
    wanted = repository.wanted()
    ours = changes(wanted)
    owed = os.path.exists(repository.mark)
    if (rivals or ours or owed) and not module.check_mode:
        repository.apply(rivals, wanted)
    module.exit_json(changed=bool(rivals or ours or owed), paths=sorted([*rivals, *ours]), removed=sorted(rivals))


if __name__ == "__main__":
    main()

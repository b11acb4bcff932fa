#!/usr/bin/python
"""One task for all the files of one concern. See DOCUMENTATION for why it exists beside `template`."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_files
short_description: Bring several files, directories and absences to their declared state in one module run
description:
  - A no-op C(template) or C(copy) costs about five SSH executions and half a second, and a loop pays that per item.
    This module takes everything one concern writes in a single execution.
  - Every file is validated before the first one is put in place; each is then replaced atomically.
  - Supports check mode and diff. The result lists C(paths), the paths that changed, for handlers to look at.
options:
  files:
    description:
      - Files to hold exactly C(content). C(validate) is a command in which C(%s) stands for the new file.
      - C(ours) is a text that only a file of the project contains. An existing file without it is somebody else's and
        is refused, not replaced.
    type: list
    elements: dict
    default: []
  directories:
    description: Directories to exist with these owners and modes, parents first. Modes may carry setgid (C(2775)).
    type: list
    elements: dict
    default: []
  absent:
    description: Paths of files or links that must not exist. A directory is refused.
    type: list
    elements: path
    default: []
  aside:
    description:
      - Paths of files that must not be in force. Each is renamed to C(PATH.provision.disabled), which apt and other
        readers of configuration directories pass over in silence.
    type: list
    elements: path
    default: []
  restored:
    description: Paths of files that an earlier O(aside) renamed and that get their names back.
    type: list
    elements: path
    default: []
  pending:
    description:
      - Name of a mark that is set on the host before the first change and that the handler clears (M(provision_files)
        with O(done)). While the mark stands the task reports a change, so that a run which died between writing a
        file and restarting its service is made good by the next one.
    type: str
  done:
    description: Names of marks to clear. Meant for handlers; never reports a change.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Configure the journal
  provision_files:
    files:
      - path: /etc/systemd/journald.conf.d/50-provision.conf
        content: "{{ lookup('ansible.builtin.template', 'journald.conf.j2') }}"
    pending: restart-journald
  notify: Restart journald
"""

RETURN = r"""
paths:
  description: The paths that changed (or would change, in check mode).
  type: list
  returned: always
"""

import grp
import os
import pwd
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_bytes, to_text

PENDING = "/var/lib/provision/pending"
ASIDE = ".provision.disabled"

FILE_SPEC = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str", "required": True},
    "mode": {"type": "str", "default": "0644"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "validate": {"type": "str"},
    "ours": {"type": "str"},
}
DIRECTORY_SPEC = {
    "path": {"type": "path", "required": True},
    "mode": {"type": "str", "default": "0755"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
}


def read(path):
    """The file's bytes, or None where there is none."""
    if not os.path.lexists(path):
        return None
    with open(path, "rb") as stream:
        return stream.read()


def exists(owner, group):
    """Whether the host knows both names."""
    try:
        pwd.getpwnam(owner)
        grp.getgrnam(group)
    except KeyError:
        return False
    return True


def set_attributes(module, entry):
    """Give the entry its owner, group and mode. Returns whether that changed (would change) anything."""
    if module.check_mode and not exists(entry["owner"], entry["group"]):
        return True  # an earlier task would have created the name
    known = {"path": entry["path"], "mode": entry["mode"], "owner": entry["owner"], "group": entry["group"]}
    wanted = module.load_file_common_arguments(dict(module.params, **known))
    return module.set_fs_attributes_if_different(wanted, False)


def stage(module, entry):
    """Write the new content to a temporary file and let the validator judge it."""
    handle, staged = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(handle, "wb") as stream:
        stream.write(to_bytes(entry["content"]))
    if entry["validate"]:
        if "%s" not in entry["validate"]:
            module.fail_json(msg="validate for %s lacks %%s: %s" % (entry["path"], entry["validate"]))
        code, out, err = module.run_command(entry["validate"].replace("%s", staged))
        if code != 0:
            told = (err or out).strip()
            module.fail_json(msg="%s was not written: its checker refused it: %s" % (entry["path"], told))
    return staged


def refuse_foreign(module, entry, before):
    """An administrator's own file is never replaced."""
    if entry["ours"] and before and to_bytes(entry["ours"]) not in before:
        module.fail_json(
            msg="%s is not provision's: it lacks the line '%s'. Move its settings into the inventory, or add that line "
            "to let provision replace it" % (entry["path"], entry["ours"])
        )


def make_directories(module, result):
    for entry in module.params["directories"]:
        path = entry["path"]
        if not os.path.isdir(path):
            if os.path.lexists(path):
                module.fail_json(msg="%s is in the way: it exists and is not a directory" % path)
            result["paths"].append(path)
            if module.check_mode:
                continue
            os.makedirs(path)
        if set_attributes(module, entry) and path not in result["paths"]:
            result["paths"].append(path)


def stage_files(module):
    """New content by path, judged, and what stands there now. Nothing on the host has changed when one is refused."""
    staged = {}
    before = {}
    for entry in module.params["files"]:
        if os.path.isdir(entry["path"]):
            module.fail_json(msg="%s is in the way: it is a directory" % entry["path"])
        before[entry["path"]] = read(entry["path"])
        refuse_foreign(module, entry, before[entry["path"]])
        if before[entry["path"]] != to_bytes(entry["content"]):
            staged[entry["path"]] = stage(module, entry)
    return staged, before


def write_files(module, staged, before, result):
    for entry in module.params["files"]:
        path = entry["path"]
        if path in staged:
            result["paths"].append(path)
            result["diff"].append(
                {
                    "before_header": path,
                    "after_header": path,
                    "before": to_text(before[path] or b"", errors="replace"),
                    "after": entry["content"],
                }
            )
            if module.check_mode:
                continue
            if not os.path.isdir(os.path.dirname(path)):
                os.makedirs(os.path.dirname(path))
            module.atomic_move(staged[path], path)
        if set_attributes(module, entry) and path not in result["paths"]:
            result["paths"].append(path)


def remove(module, result):
    for path in module.params["absent"]:
        if os.path.isdir(path) and not os.path.islink(path):
            module.fail_json(msg="%s is a directory and is not removed" % path)
        if os.path.lexists(path):
            result["paths"].append(path)
            if not module.check_mode:
                os.unlink(path)


def rename(module, path, new, result):
    if os.path.lexists(path):
        result["paths"].append(path)
        if not module.check_mode:
            os.rename(path, new)


def set_aside(module, result):
    for path in module.params["aside"]:
        rename(module, path, path + ASIDE, result)
    for path in module.params["restored"]:
        if not os.path.lexists(path):
            rename(module, path + ASIDE, path, result)


def main():
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "options": FILE_SPEC, "default": []},
            "directories": {"type": "list", "elements": "dict", "options": DIRECTORY_SPEC, "default": []},
            "absent": {"type": "list", "elements": "path", "default": []},
            "aside": {"type": "list", "elements": "path", "default": []},
            "restored": {"type": "list", "elements": "path", "default": []},
            "pending": {"type": "str"},
            "done": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    result = {"changed": False, "paths": [], "diff": []}
    mark = os.path.join(PENDING, module.params["pending"]) if module.params["pending"] else None
    owed = bool(mark and os.path.exists(mark))
    staged, before = stage_files(module)
    if mark and not module.check_mode and not owed:
        # Set before anything is touched: if this run dies half way, the next one knows that a restart is owed.
        os.makedirs(PENDING, mode=0o755, exist_ok=True)
        with open(mark, "w"):
            pass
    make_directories(module, result)
    write_files(module, staged, before, result)
    remove(module, result)
    set_aside(module, result)
    if mark and not module.check_mode and not owed and not result["paths"]:
        os.unlink(mark)
    result["changed"] = bool(result["paths"]) or owed
    for name in module.params["done"]:
        path = os.path.join(PENDING, name)
        if os.path.exists(path) and not module.check_mode:
            os.unlink(path)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

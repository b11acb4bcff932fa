"""The playbooks work by themselves: from any directory, without the command line and without our ansible.cfg."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from provision import content
from provision.errors import ProvisionError


def test_ansible_finds_the_roles_beside_the_playbooks(tmp_path: Path) -> None:
    ansible = Path(sys.executable).with_name("ansible")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    play = ["--playbook-dir", content.playbooks_dir(), "-i", "box,", "-c", "local"]
    # The role has no such tasks, so that nothing is run: Ansible complains of them only once it has found the role.
    found = subprocess.run(
        [ansible, "box", *play, "-m", "include_role", "-a", "name=base tasks_from=none"],
        cwd=tmp_path, env={**clean, "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Could not find specified file in role: tasks/none" in found.stdout + found.stderr


def test_a_module_s_own_imports_are_the_modules_that_its_tests_see() -> None:
    role = content.roles_dir() / "docker"
    shared = content.load(role / "module_utils" / "docker_host.py")
    assert content.load(role / "library" / "docker_members.py").members_record is shared.members_record


@pytest.mark.parametrize("folder", ["library", "module_utils"])
def test_a_file_that_is_missing_is_named(folder: str) -> None:
    with pytest.raises(ProvisionError, match=f"lacks its file .*/{folder}/nothing.py"):
        content.load(content.playbooks_dir() / folder / "nothing.py")

"""What the documentation of our modules says: their options as they are read, and every result that they give."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic

from provision.content import load, playbooks_dir, roles_dir

MODULES = sorted([*(playbooks_dir() / "library").glob("*.py"), *roles_dir().glob("*/library/*.py")])
TOLD = ("type", "required", "default", "choices", "elements")


class Asked(Exception):
    """What a module would have read."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_options_are_documented_as_they_are_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(argument_spec: dict[str, Any], **_: Any) -> None:
        raise Asked(argument_spec)

    monkeypatch.setattr(basic, "AnsibleModule", ask)
    module = load(path)
    with pytest.raises(Asked) as asked:
        module.main()
    read = asked.value.args[0]
    documented = yaml.safe_load(module.DOCUMENTATION).get("options", {})
    assert _told(documented) == _told(read)


def _told(options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {key: option[key] for key in TOLD if key in option} for name, option in options.items()}


def given(path: Path) -> set[str]:
    """The results that a module names where it ends; some hand over a whole dict instead."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    ends = [call for call in calls if ast.unparse(call.func).endswith("exit_json")]
    return {keyword.arg for call in ends for keyword in call.keywords if keyword.arg} - {"changed", "diff", "msg"}


@pytest.mark.parametrize("path", list(filter(given, MODULES)), ids=lambda path: path.stem)
def test_results_are_documented(path: Path) -> None:
    assert given(path) <= set(yaml.safe_load(load(path).RETURN))

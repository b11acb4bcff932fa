"""The tables of docs/settings.md say what the roles' specs say. PROVISION_UPDATE_CASES=1 writes them anew."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import yaml

from provision import content
from provision.catalog import load_tier
from provision.schema import expected
from provision.settings import Setting, load_registry
from provision.translate import role_variables

DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"
MARK = "<!-- written by tests/unit/test_settings_docs.py; change the roles' argument specs instead -->\n"


def plain(text: str) -> str:
    """Ansible's markup in descriptions (`V(x)`, `C(x)`, `O(x)`) as Markdown."""
    return re.sub(r"\b[VCOM]\(([^)]*)\)", r"`\1`", text).replace("|", "\\|")


def row(setting: Setting) -> str:
    kind = expected(setting.schema)
    if "enum" in setting.schema:
        kind = "one of " + ", ".join(f"`{choice}`" for choice in setting.schema["enum"])
    if inner := setting.schema.get("items", {}).get("properties"):
        needed = setting.schema["items"]["required"]
        kind += " of mappings: " + ", ".join(
            f"`{key}`" + ("" if key in needed else " (may be left out)") for key in inner
        )
    default = json.dumps(setting.default, ensure_ascii=False).replace("|", "\\|")
    return f"| `{setting.name}` | {kind} | `{default}` | {plain(setting.description)} |"


def tables() -> str:
    registry = load_registry()
    parts = []
    for role in load_tier("budget").roles:
        rows = [row(setting) for setting in registry.settings.values() if setting.role == role]
        parts.append("\n".join([f"\n## Role `{role}`\n", "| Setting | Type | Default | |", "|---|---|---|---|", *rows]))
    return "\n".join(parts) + "\n"


def test_the_tables_are_those_of_the_specs() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    written, _, _ = text.partition(MARK)
    if os.environ.get("PROVISION_UPDATE_CASES"):
        DOCUMENT.write_text(written + MARK + tables(), encoding="utf-8")
        text = DOCUMENT.read_text(encoding="utf-8")
    assert text == written + MARK + tables(), (
        "PROVISION_UPDATE_CASES=1 pytest tests/unit/test_settings_docs.py writes it"
    )


def test_the_mirrors_shown_are_the_defaults_and_reach_the_variables_named() -> None:
    shown = re.search(r"```yaml\n(mirrors:\n.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert shown
    mirrors = yaml.safe_load(shown[1])["mirrors"]
    assert mirrors == yaml.safe_load((content.catalog_dir() / "mirrors.yml").read_text(encoding="utf-8"))
    assert re.findall(r"-> (\w+)", shown[1]) == [name for name, _, _ in role_variables(mirrors)]


def test_the_example_tier_is_a_sound_one(tmp_path: Path) -> None:
    shown = re.search(r"```yaml\n(# mine\.yml.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert shown
    (tmp_path / "mine.yml").write_text(shown[1])
    assert load_tier(str(tmp_path / "mine.yml")).roles == ("base", "docker")

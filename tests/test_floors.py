"""Imports go down only, and the packages that touch hosts are imported where hosts are touched."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "provision"

FLOORS = {
    "errors": 0, "model": 0, "events": 0, "report": 0, "codec": 0, "nearest": 0, "redact": 0,
    "catalog": 1, "resolve": 1, "solver": 1, "translate": 1, "fold": 1, "schema": 1, "yamlfile": 1,
    "content": 1, "settings": 1, "comparison": 1, "contradictions": 1, "lspci": 1, "nvidia_smi": 1, "gpu_health": 1,
    "link_speed": 1,
    "inventory": 2, "inventory_reader": 2, "ledger": 2, "hardware_file": 2, "engine": 2, "lab": 2,
    "operations": 3,
    "cli": 4, "__main__": 5,
}  # fmt: skip

# Who may import what touches a host or is slow to load.
ONLY_IN = {"ansible_runner": "engine", "paramiko": "engine", "pytest": "engine", "testinfra": "engine", "rich": "cli"}


def imported(path: Path) -> set[str]:
    """Every module a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def room(path: Path) -> str:
    """The top-level room of a file: `engine` for provision/engine/x.py, `model` for provision/model.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def rising(path: Path) -> set[str]:
    """What a file imports from a floor above its own."""
    here = FLOORS[room(path)]
    ours = {name for name in imported(path) if name.startswith("provision.")}
    return {name for name in ours if FLOORS.get(name.split(".")[1], here) > here}


def strange(path: Path) -> set[str]:
    """What a file imports although another room is the only one that may."""
    return {name for name in imported(path) if ONLY_IN.get(name.split(".")[0], room(path)) != room(path)}


def offenders(rule: Callable[[Path], set[str]]) -> str:
    """Every file that breaks a rule, with what it may not import."""
    broken = [f"{path.relative_to(PACKAGE)}: {', '.join(sorted(names))}" for path in FILES if (names := rule(path))]
    return "\n".join(broken)


def test_every_room_has_a_floor() -> None:
    assert {room(path) for path in FILES} - set(FLOORS) == set()


def test_imports_go_down_only() -> None:
    assert offenders(rising) == ""


def test_what_touches_hosts_is_imported_in_its_room_only() -> None:
    assert offenders(strange) == ""


def test_the_words_do_no_io() -> None:
    forbidden = {"os", "subprocess", "pathlib", "socket", "sqlite3", "shutil"}
    for name in ("errors", "model", "events", "report"):
        assert not imported(PACKAGE / f"{name}.py") & forbidden


def test_floors_catch_an_import_that_goes_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail: a word that imports the engine and pytest is named by both."""
    bad = tmp_path / "model.py"
    bad.write_text("def f():\n    import pytest\n    from provision.engine import preflight\n", encoding="utf-8")
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    monkeypatch.setitem(globals(), "FILES", [bad])
    assert offenders(rising) == "model.py: provision.engine, provision.engine.preflight"
    assert offenders(strange) == "model.py: pytest"

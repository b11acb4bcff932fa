"""One command says whether the tree is healthy: the linters and types are tests like any other."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def tracked(*patterns: str) -> list[str]:
    told = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [name for name in told.stdout.splitlines() if (ROOT / name).is_file()]


def none_of(offenders: list[str]) -> None:
    """A rule is one test, which names everything that breaks it."""
    assert not offenders, "\n".join(offenders)


def run(*command: str) -> None:
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr[-3000:]


def test_ruff_check() -> None:
    run(str(BIN / "ruff"), "check")


def test_ruff_format() -> None:
    run(str(BIN / "ruff"), "format", "--check")


@pytest.mark.xdist_group("mypy")  # it and ansible-lint take as long as all the rest: each goes alone
def test_mypy() -> None:
    run(str(BIN / "mypy"))


def test_yamllint() -> None:
    run(str(BIN / "yamllint"), "--strict", ".")


@pytest.mark.xdist_group("ansible-lint")
def test_ansible_lint() -> None:
    run(str(BIN / "ansible-lint"), "--offline", "--strict", "--profile", "production")


def test_shellcheck() -> None:
    shellcheck = shutil.which("shellcheck")
    assert shellcheck, "shellcheck is missing: tools/setup test installs it"
    scripts = [name for name in tracked() if is_shell(ROOT / name)]
    assert "tools/setup" in scripts
    run(shellcheck, *scripts)


def is_shell(path: Path) -> bool:
    with path.open("rb") as stream:
        first = stream.readline(80)
    return first.startswith(b"#!") and first.rstrip().endswith((b"/sh", b"bash"))


def test_files_stay_under_400_lines() -> None:
    names = tracked("*.py", "*.sh", "*.yml", "*.j2")
    assert "tests/test_style.py" in names
    lengths = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in names}
    none_of([f"{name} has {length} lines" for name, length in lengths.items() if length > 400])


def functions(name: str) -> list[ast.FunctionDef]:
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def test_functions_stay_under_40_lines() -> None:
    names = tracked("provision/*.py", "playbooks/*.py", "tools/*.py")
    assert "provision/__main__.py" in names
    found = [(name, node) for name in names for node in functions(name)]
    long = [(name, node) for name, node in found if node.end_lineno and node.end_lineno - node.lineno >= 40]
    none_of([f"{name}:{node.lineno} {node.name} ends in line {node.end_lineno}" for name, node in long])


def test_no_file_names_this_machine() -> None:
    """Paths of one checkout do not belong in the tree."""
    none_of([name for name in tracked() if str(ROOT).encode() in (ROOT / name).read_bytes()])

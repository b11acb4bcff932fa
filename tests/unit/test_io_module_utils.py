"""Files that the modules write are whole or not there."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

import pytest

from provision.content import load, playbooks_dir

FILE = playbooks_dir() / "module_utils" / "provision_io.py"
io = load(FILE)


def test_the_target_needs_no_newer_python() -> None:
    ast.parse(FILE.read_text(encoding="utf-8"), feature_version=(3, 8))


@pytest.mark.parametrize("content", ["né\n", "né\n".encode()])
def test_a_file_gets_its_content_and_mode_whatever_it_was(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "folder" / "file"
    for _ in range(2):
        io.atomic_write(str(path), content, 0o640)
        assert path.read_text(encoding="utf-8") == "né\n"
        assert path.stat().st_mode & 0o7777 == 0o640
        path.chmod(0o777)
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_what_cannot_be_written_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before\n")
    with pytest.raises(TypeError):
        io.atomic_write(str(path), 5)
    assert path.read_text() == "before\n"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_it_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, done = str(tmp_path / "file"), []
    monkeypatch.setattr(io, "sync", lambda place: done.append(("sync", place)))
    monkeypatch.setattr(io.os, "replace", lambda *places: done.append(("replace", *places)))
    io.atomic_write(path, "content")
    draft = f"{path}.provision-new"
    assert done == [("sync", draft), ("replace", draft, path), ("sync", str(tmp_path))]


def test_the_digest_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(3_000_000))
    assert io.sha256_of(str(tmp_path / "file")) == hashlib.sha256(bytes(3_000_000)).hexdigest()

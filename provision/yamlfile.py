"""YAML that remembers where each value stands, so that a fault can be told as `file:line`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from provision.errors import ProvisionError, refuse
from provision.model import Refusal

Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A file's data, and the line of every key and list item in it."""

    path: Path
    data: Any
    lines: dict[Path_, int]

    def place(self, path: Sequence[str | int]) -> str:
        """`file:line` of the value at `path`, or of its nearest ancestor that the file names."""
        return f"{self.path}:{self.line(path)}"

    def line(self, path: Sequence[str | int]) -> int:
        known = tuple(path)
        while known and known not in self.lines:
            known = known[:-1]
        return self.lines.get(known, 1)


def read_yaml(path: Path) -> Document:
    """Read one YAML file.

    Raises:
        ProvisionError: the file cannot be read, is not YAML (with line and column), or names a key twice (all of them).
    """
    loader = yaml.CSafeLoader(_text(path))
    try:
        node, lines = _compose(path, loader)
        if node is None:
            raise refuse(str(path), "is empty", "write the tier into it; `provision tiers show budget` shows one")
        return Document(path, loader.construct_document(node), lines)
    except yaml.MarkedYAMLError as error:
        raise _broken(path, error) from error
    finally:
        loader.dispose()


def check_yaml(path: Path) -> tuple[Refusal, ...]:
    """What keeps a file from being read, whatever tags (vaults) its values carry; a file that is a vault is sound."""
    loader = None
    try:
        text = _text(path)
        loader = yaml.CSafeLoader("" if text.startswith("$ANSIBLE_VAULT;") else text)
        _compose(path, loader)
    except yaml.MarkedYAMLError as error:
        return _broken(path, error).refusals
    except ProvisionError as error:
        return error.refusals
    finally:
        if loader:
            loader.dispose()
    return ()


def _compose(path: Path, loader: yaml.CSafeLoader) -> tuple[yaml.Node | None, dict[Path_, int]]:
    """The document's node and lines; keys named twice are refused."""
    try:
        node = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        raise refuse(str(path), f"holds a character YAML forbids: {error.reason}", "save it as plain text") from error
    lines: dict[Path_, int] = {}
    twice = list(_walk(node, (), lines)) if node is not None else []
    if twice:
        hint = "keep one of the two"
        raise ProvisionError([Refusal(f"{path}:{line}", f"names the key {key} twice", hint) for key, line in twice])
    return node, lines


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise refuse(str(path), "does not exist", "check the path") from None
    except OSError as error:
        raise refuse(str(path), f"cannot be read: {error.strerror}", "check its owner and mode") from error
    except UnicodeDecodeError as error:
        raise refuse(str(path), f"is not UTF-8 text (byte {error.start})", "save it as plain UTF-8 text") from error


def _broken(path: Path, error: yaml.MarkedYAMLError) -> ProvisionError:
    mark = error.problem_mark or error.context_mark
    place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    hint = "mend the line; YAML is indented with spaces, never tabs"
    return refuse(place, f"is not valid YAML: {error.problem or error.context}", hint)


def _walk(node: yaml.Node, path: Path_, lines: dict[Path_, int]) -> Iterator[tuple[str, int]]:
    """Note every line; yield the keys that a mapping names more than once."""
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*path, index), lines)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            line = key.start_mark.line + 1
            if name in seen:
                yield ".".join(map(str, (*path, name))), line
            seen.add(name)
            lines[(*path, name)] = line
            yield from _walk(value, (*path, name), lines)

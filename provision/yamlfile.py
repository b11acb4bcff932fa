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
        known = tuple(path)
        while known and known not in self.lines:
            known = known[:-1]
        return f"{self.path}:{self.lines.get(known, 1)}"


def read_yaml(path: Path) -> Document:
    """Read one YAML file.

    Raises:
        ProvisionError: the file cannot be read, is not YAML (with line and column), or names a key twice (all of them).
    """
    loader = yaml.CSafeLoader(_text(path))
    try:
        node = loader.get_single_node()
        if node is None:
            raise refuse(str(path), "is empty", "write the tier into it; `provision tiers show budget` shows one")
        lines: dict[Path_, int] = {}
        twice = list(_walk(node, (), lines))
        if twice:
            hint = "keep one of the two"
            raise ProvisionError([Refusal(f"{path}:{line}", f"names the key {key} twice", hint) for key, line in twice])
        return Document(path, loader.construct_document(node), lines)
    except yaml.MarkedYAMLError as error:
        raise _broken(path, error) from error
    except yaml.YAMLError as error:
        raise refuse(str(path), f"is not YAML: {error}", "save it as plain UTF-8 text") from error
    finally:
        loader.dispose()


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

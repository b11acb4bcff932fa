"""The controller's own package configuration, in the form of the project's `mirrors` setting."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

ETC = Path("/etc")
# Where a distribution's own archive may live; anything else among the controller's sources is a third party's.
SUITE_SUFFIXES = ("", "-updates", "-security", "-backports")
# Debian's mirrors hold all of its releases, so a controller's sources of one serve targets of another.
DEBIAN = ("bookworm", "trixie")


def controller_mirrors(codename: str = "bookworm") -> dict[str, Any]:
    """What a target of that release needs to use the mirrors this machine uses; only keys that are known."""
    found: dict[str, Any] = {}
    if bundle := ca_bundle():
        found["ca_bundle"] = bundle
    if sources := apt_sources(codename):
        found["apt"] = {"sources": sources}
    if python := python_index():
        found["python"] = python
    if endpoint := os.environ.get("HF_ENDPOINT", ""):
        found["huggingface"] = endpoint
    return found


def apt_sources(codename: str) -> list[dict[str, Any]]:
    """The controller's stanzas for suites of that release (Debian's: of any), third parties left out."""
    stanzas: list[dict[str, Any]] = []
    folder = ETC / "apt"
    for file in (folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))):
        if not file.is_file():
            continue
        text = file.read_text(errors="replace")
        if file.suffix == ".sources":
            stanzas += _deb822(text)
        elif file.suffix == ".list":
            stanzas += _one_line(text)
    chosen = []
    siblings = DEBIAN if codename in DEBIAN else (codename,)
    alike = {each + suffix: codename + suffix for each in siblings for suffix in SUITE_SUFFIXES}
    for stanza in stanzas:
        suites = list(dict.fromkeys(alike[suite] for suite in stanza["suites"] if suite in alike))
        if suites and "deb" in stanza["types"]:
            chosen.append({**stanza, "types": ["deb"], "suites": suites})
    return chosen


def one_line_sources(stanzas: list[dict[str, Any]]) -> list[str]:
    """The same sources as classic one-line entries, one for each address and suite."""
    lines = []
    for stanza in stanzas:
        signed = f"[signed-by={stanza['signed_by']}] " if stanza.get("signed_by") else ""
        lines += [
            f"deb {signed}{uri} {suite} {' '.join(stanza['components'])}"
            for uri in stanza["uris"]
            for suite in stanza["suites"]
        ]
    return lines


def apt_options() -> list[str]:
    """The controller's apt options that a bootstrap needs as well: proxies and the check of release dates."""
    try:
        dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return []
    wanted = re.compile(r'Acquire::(https?::Proxy|Check-Valid-Until)\b[^"]*"[^"]+";')
    return [line for line in dump.splitlines() if wanted.fullmatch(line)]


def ca_bundle() -> str:
    """The bundle that pip or OpenSSL on this machine was told to trust, or "" when nobody said."""
    pip = pip_settings()
    candidates = (pip.get("cert", ""), *(os.environ.get(name, "") for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")))
    for candidate in candidates:
        if candidate and Path(candidate).is_file():
            return candidate
    return ""


def python_index() -> dict[str, Any]:
    """pip's indexes and wheel folders (uv does not read pip's configuration), and uv's source of interpreters."""
    pip = pip_settings()
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL") or pip.get("index-url", "")
    found: dict[str, Any] = {
        "index": index,
        # A folder that supplements an index is left out: uv takes every version of a package from the first index that
        # has any, so a folder with one old wheel hides the version that a lock file pins. pip would merge the two.
        "extra_indexes": [url for url in pip.get("extra-index-url", "").split() if not url.startswith("file:")],
        "find_links": [_absolute(place) for place in pip.get("find-links", "").split()],
        "interpreters": os.environ.get("UV_PYTHON_INSTALL_MIRROR", ""),
    }
    return {key: value for key, value in found.items() if value}


def pip_settings() -> dict[str, str]:
    """pip's settings as pip itself would combine them: files from the widest to the nearest, then the environment."""
    settings: dict[str, str] = {}
    for file in _pip_files():
        parser = configparser.RawConfigParser()
        try:
            parser.read(file)
        except (configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                settings.update({key.replace("_", "-"): value for key, value in parser.items(section)})
    for name, value in os.environ.items():
        if name.startswith("PIP_") and value:
            settings[name[4:].lower().replace("_", "-")] = value
    return settings


def folders(mirrors: Mapping[str, Any]) -> list[str]:
    """Folders of this machine among the mirrors, which a target sees only when they are mounted into it."""
    python = mirrors.get("python", {})
    places = [*python.get("find_links", []), python.get("index", ""), *python.get("extra_indexes", [])]
    found: list[str] = []
    for place in places:
        path = _folder(place)
        if path is None:
            continue
        found.append(str(path))
        # An index page links to files beside it: ../../files/NAME.
        if place.startswith("file:") and (path.parent / "files").is_dir():
            found.append(str(path.parent / "files"))
    return sorted(set(found))


def _pip_files() -> list[Path]:
    """pip's configuration files, in its order of precedence, the strongest last."""
    override = os.environ.get("PIP_CONFIG_FILE", "")
    if override == os.devnull:
        return []
    home = Path.home()
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [ETC / "pip.conf", home / ".pip" / "pip.conf", config / "pip" / "pip.conf", Path(sys.prefix) / "pip.conf"]
    return [*files, Path(override)] if override else files


def _folder(place: str) -> Path | None:
    """The folder a path or file: address means, or None when it is no folder of this machine."""
    if not place.startswith(("/", "file:")):
        return None
    path = Path(unquote(urlparse(place).path))
    return path if path.is_dir() and path != Path("/") else None


def _absolute(place: str) -> str:
    """A wheel folder as an absolute path; addresses stay as they are."""
    return place if "://" in place else str(Path(place).expanduser().absolute())


def _deb822(text: str) -> list[dict[str, Any]]:
    """The enabled stanzas of a .sources file."""
    found = []
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        fields: dict[str, str] = {}
        key = ""
        for line in lines:
            if line[:1] in " \t":
                fields[key] = f"{fields.get(key, '')} {line.strip()}"
            elif ":" in line:
                key, value = (part.strip() for part in line.split(":", 1))
                key = key.lower()
                fields[key] = value
        if fields.get("enabled", "yes").lower() in {"no", "false", "0"} or not fields.get("uris"):
            continue
        stanza = {name: fields.get(name, "").split() for name in ("types", "uris", "suites", "components")}
        # An inline key begins with a blank line in the field; a target knows it only by path.
        signed = fields.get("signed-by", "").strip()
        found.append({**stanza, **({"signed_by": signed} if signed.startswith("/") else {})})
    return found


def _one_line(text: str) -> list[dict[str, Any]]:
    """The entries of a classic .list file."""
    found = []
    for line in text.splitlines():
        match = re.match(r"\s*(deb|deb-src)\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]*)", line)
        if not match:
            continue
        kind, options, uri, suite, components = match.groups()
        stanza: dict[str, Any] = {"types": [kind], "uris": [uri], "suites": [suite], "components": components.split()}
        signed = dict(option.split("=", 1) for option in (options or "").split() if "=" in option).get("signed-by", "")
        found.append({**stanza, **({"signed_by": signed} if signed.startswith("/") else {})})
    return found

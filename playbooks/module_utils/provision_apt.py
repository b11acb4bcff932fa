"""What apt and dpkg know, and what belongs to a third party's repository: its key and the sources that rival it.

For the target's Python 3.8. Nothing here changes anything.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import urllib.request

from ansible.module_utils.provision_openpgp import primary_fingerprints

SOURCES = "/etc/apt/sources.list"
PARTS = "/etc/apt/sources.list.d"
TIMEOUT = 5  # seconds; a repository that is there answers in well under one


def read(path):
    """The file's bytes; none where there is no file."""
    if not os.path.exists(path):
        return b""
    with open(path, "rb") as stream:
        return stream.read()


def text_of(path):
    return read(path).decode("utf-8", "replace")


def request(url, method):
    if not url.startswith(("https://", "http://", "file://")):
        raise OSError("%s is not an http, https or file address" % url)
    return urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=TIMEOUT)


def reachable(url):
    """Why `url` does not answer, or an empty text."""
    try:
        with request(url, "HEAD"):
            return ""
    except OSError as error:
        return str(getattr(error, "reason", error))


def trusted_key(keyring, url, fingerprint):
    """A repository's armored key as text: the one in place if it is right, else fetched and judged before use.

    The host's own certificate store verifies the connection.

    Raises:
        ValueError: it cannot be had, is no armored key file, or is not exactly the key with this fingerprint.
    """
    wanted = fingerprint.replace(" ", "").upper()
    held = read(keyring)
    with contextlib.suppress(ValueError):  # what lies there may be no key at all
        if held and primary_fingerprints(held) == [wanted]:
            return held.decode("ascii")
    try:
        with request(url, "GET") as response:
            fetched = response.read()
        found = primary_fingerprints(fetched)
        if not fetched.isascii():
            raise ValueError("it is binary, and apt takes the ASCII-armored form under this name")
    except (OSError, ValueError) as error:
        raise ValueError("key %s cannot be used: %s" % (url, error)) from error
    if found != [wanted]:
        raise ValueError(
            "key %s has fingerprint %s, expected %s: it is refused and nothing was written"
            % (url, " and ".join(found), wanted)
        )
    return fetched.decode("ascii")


def bare(address):
    """An address without its scheme and the slashes at its end: http and https are the same archive."""
    return re.sub(r"^[a-z+]+:/+", "", address.strip()).rstrip("/")


def below(address, prefixes):
    """Whether the address is one of `prefixes` or lies in it."""
    return any((bare(address) + "/").startswith(bare(prefix) + "/") for prefix in prefixes)


def one_line_entries(text):
    """Yield `(line, addresses)` of a one-line source file."""
    for line in text.splitlines():
        found = re.match(r"\s*deb(?:-src)?\s+(?:\[[^]]*\]\s*)?(\S+)", line)
        if found:
            yield line.strip(), [found.group(1)]


def stanzas(text):
    """Yield the fields of each stanza of a deb822 source file that is not switched off."""
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if not line.startswith("#")]
        joined = re.sub(r"\n[ \t]+", " ", "\n".join(lines))
        fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", joined, re.MULTILINE))
        if fields.get("Enabled", "yes").strip().lower() not in ("no", "false", "0"):
            yield fields


def stanza_entries(text):
    """Yield `(URIs line, addresses)` of each such stanza."""
    for fields in stanzas(text):
        if "URIs" in fields:
            yield "URIs: " + fields["URIs"].strip(), fields["URIs"].split()


def source_files():
    """The files in which apt looks for its sources."""
    return [SOURCES, *sorted(glob.glob(PARTS + "/*.list")), *sorted(glob.glob(PARTS + "/*.sources"))]


def rival_sources(prefixes, own):
    """Source files that name the same archive, `own` excepted: apt refuses two keys for one archive.

    Returns:
        Those wholly about it, and `(file, line)` of those that list it among others.
    """
    wholly, mixed = [], []
    for path in source_files():
        if path == own:
            continue
        entries = list((stanza_entries if path.endswith(".sources") else one_line_entries)(text_of(path)))
        about = [line for line, addresses in entries if any(below(address, prefixes) for address in addresses)]
        clean = [line for line, addresses in entries if all(below(address, prefixes) for address in addresses)]
        if about and len(clean) == len(entries) and path != SOURCES:
            wholly.append(path)
        elif about:
            mixed.append((path, about[0]))
    return wholly, mixed


def installed(module, names):
    """Names and versions of those packages that are installed completely; a name may be a pattern."""
    form = "${Package} ${db:Status-Status} ${Version}\n"
    # dpkg-query fails where one of the names is unknown to it, and tells of the others all the same.
    answer = module.run_command(["dpkg-query", "-W", "-f", form, *names])[1]
    rows = [line.split(" ") for line in answer.splitlines()]
    return {row[0]: row[2] for row in rows if len(row) == 3 and row[1] == "installed"}


def candidates(module, names):
    """Those names for which apt's present lists hold a candidate, and its version."""
    answer = module.run_command(["apt-cache", "policy", *names], environ_update={"LC_ALL": "C"})[1]
    known, name = {}, ""
    for line in answer.splitlines():
        if not line.startswith(" "):
            name = line.rstrip(":")
        elif line.strip().startswith("Candidate:") and "(none)" not in line:
            known[name] = line.split()[1]
    return known


def offered(module, name):
    """The versions of a package in apt's present lists, the newest first."""
    rows = module.run_command(["apt-cache", "madison", name], environ_update={"LC_ALL": "C"})[1].splitlines()
    versions = [row.split("|")[1].strip() for row in rows if row.count("|") == 2 and "Sources" not in row]
    return list(dict.fromkeys(versions))

"""Fingerprints of the primary keys in an OpenPGP key file, without gpg: a bare host has only apt's gpgv.

Pure functions for the target's Python 3.8. RFC 4880 sections 4.2 (packet headers), 6.2 (armor) and 12.2 (fingerprints).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

PUBLIC_KEY = 6
ARMOR = re.compile(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.S)


def primary_fingerprints(data):
    """The fingerprints (40 capital hex digits) of all primary keys in `data`, armored or binary.

    Raises:
        ValueError: where `data` is not a public key file.
    """
    try:
        found = [fingerprint(body) for tag, body, _ in packets(dearmor(data)) if tag == PUBLIC_KEY]
    except (IndexError, binascii.Error) as error:
        raise ValueError("it is cut off or damaged (%s)" % error) from error
    if not found:
        raise ValueError("it holds no OpenPGP public key")
    return found


def without(data, unwanted):
    """A binary keyring without the keys whose fingerprints are `unwanted`: each goes with all that follows it.

    Raises:
        ValueError: where `data` is not a public key file.
    """
    kept, position, keep = b"", 0, True
    for tag, body, end in packets(data):
        if tag == PUBLIC_KEY:
            keep = fingerprint(body) not in unwanted
        kept += data[position:end] if keep else b""
        position = end
    return kept


def dearmor(data):
    """The binary packets of every armored block, or `data` itself where there is none."""
    blocks = ARMOR.findall(data)
    if not blocks:
        return data
    return b"".join(base64.b64decode(payload(block)) for block in blocks)


def payload(block):
    """The base64 lines of a block: after the headers' empty line, without the checksum that begins with `=`."""
    lines = [line.strip() for line in block.split(b"\n")]
    start = lines.index(b"") + 1 if b"" in lines else 0
    return b"".join(line for line in lines[start:] if not line.startswith(b"="))


def packets(data):
    """Yield `(tag, body, end)` of every packet; it ends before `data[end]`."""
    position = 0
    while position < len(data):
        header = data[position]
        if not header & 0x80:
            raise ValueError("it is not an OpenPGP file")
        if header & 0x40:
            tag, (position, length) = header & 0x3F, new_length(data, position + 1)
        else:
            tag, (position, length) = (header >> 2) & 0x0F, old_length(data, position + 1, header & 0x03)
        if position + length > len(data):
            raise ValueError("it is cut off")
        yield tag, data[position : position + length], position + length
        position += length


def new_length(data, position):
    first = data[position]
    if first < 192:
        return position + 1, first
    if first < 224:
        return position + 2, ((first - 192) << 8) + data[position + 1] + 192
    if first == 255:
        return position + 5, int.from_bytes(data[position + 1 : position + 5], "big")
    raise ValueError("it has packets of unknown length, which a key file never has")


def old_length(data, position, kind):
    if kind == 3:
        raise ValueError("it has packets of unknown length, which a key file never has")
    octets = 1 << kind
    return position + octets, int.from_bytes(data[position : position + octets], "big")


def fingerprint(body):
    if body[0] != 4:
        raise ValueError("its key has version %d, and only version 4 is known here" % body[0])
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()

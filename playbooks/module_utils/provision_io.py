"""Files that are whole or not there, and what tells one from another.

For the target's Python 3.8.
"""

from __future__ import annotations

import hashlib
import os


def atomic_write(path, content, mode=0o644):
    """Replace a file in one step, so that a crash leaves the old one or the new. `content` is text or bytes.

    No reader of configuration folders takes the draft's name, should it be left behind.
    """
    folder, draft = os.path.dirname(path), path + ".provision-new"
    os.makedirs(folder, mode=0o755, exist_ok=True)
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as stream:
            stream.write(content.encode("utf-8") if isinstance(content, str) else content)
            os.fchmod(stream.fileno(), mode)
        sync(draft)
        os.replace(draft, path)
    except BaseException:
        if os.path.lexists(draft):
            os.unlink(draft)
        raise
    sync(folder)


def sync(path):
    """Have a file's or a folder's content on the disk before the next step."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()

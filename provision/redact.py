"""Keeps secrets out of what is written: by value where they are known, by the name beside them where they are not."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

MARK = "[redacted]"

_WORDS = r"(?:password|passwd|passphrase|secret|token|credential|api[_-]?key|access[_-]?key|private[_-]?key)s?"
# A name that ends in such a word holds a secret; one that goes on (`token_path`, `key_url`) tells where one is.
_NAME = re.compile(rf"{_WORDS}$", re.IGNORECASE)
_NUMERIC_SECRET = re.compile(r"pass(?:word|wd|phrase)$", re.IGNORECASE)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
# `name=value`, and `name: value` where no further word follows: "asks for a password: use -K" is a sentence.
_ASSIGNMENT = re.compile(
    rf"""(?P<name>{_WORDS}\\?["']?\s*(?:=>?|:)\s*)
    (?!{re.escape(MARK)})
    (?P<value>\\"[^"]*" | "(?:\\.|[^"\\])*" | '[^']*' | (?<==)\S+ | \S+(?=\s*$) | [^\s,;}}\])]+(?=[,;}}\])]))""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_AUTHORIZATION = re.compile(r"(?P<name>\b(?:bearer|basic)\s+)[A-Za-z0-9+/=._~-]{8,}", re.IGNORECASE)
_USERINFO = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]{0,30}://)[^\s/@:]*(?P<password>:[^\s/@]*)?@", re.IGNORECASE)
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}\b")


def redact(text: str, secrets: Collection[str] = ()) -> str:
    """`text` without the given secrets, private keys, URL credentials, and values that stand beside a secret's name."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        # A very short secret is replaced only as a word of its own: inside words it would spell itself out.
        text = (
            re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MARK, text) if len(secret) < 5 else text.replace(secret, MARK)
        )
    text = _PRIVATE_KEY.sub(MARK, text)
    text = _USERINFO.sub(_without_credentials, text)
    text = _AUTHORIZATION.sub(rf"\g<name>{MARK}", text)
    text = _ASSIGNMENT.sub(_hide_value, text)
    return _HUB_TOKEN.sub(MARK, text)


def redact_data(data: Any, secrets: Collection[str] = ()) -> Any:
    """The same for plain data, where a key's name gives its value away at any depth below it."""
    if isinstance(data, str):
        return redact(data, secrets)
    if isinstance(data, Mapping):
        # A plan's reason names the setting in `subject` and shows its value in `choice`.
        named = {"choice"} if _is_secret(data.get("subject")) else set()
        return {
            key: _hide(key, value) if _is_secret(key) or key in named else redact_data(value, secrets)
            for key, value in data.items()
        }
    if isinstance(data, list | tuple):
        return [redact_data(item, secrets) for item in data]
    return data


def redact_argv(argv: Sequence[str], secrets: Collection[str] = ()) -> tuple[str, ...]:
    """The same for a command line, in which `--token VALUE` are two words."""
    kept: list[str] = []
    for word in argv:
        follows = bool(kept) and kept[-1].startswith("-") and "=" not in kept[-1] and _is_secret(kept[-1])
        kept.append(MARK if follows else redact(word, secrets))
    return tuple(kept)


def _is_secret(name: Any) -> bool:
    return isinstance(name, str) and _NAME.search(name) is not None


def _hide(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _hide(name, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hide(name, item) for item in value]
    if isinstance(value, str):
        return MARK if value else value
    # `max_tokens: 4096` is no secret, `password: 4096` is one.
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return MARK if numeric and _NUMERIC_SECRET.search(name) else value


def _hide_value(match: re.Match[str]) -> str:
    value = match["value"]
    if not value.strip("\\\"'"):
        return match[0]
    quote = '\\"' if value.startswith('\\"') else value[0] if value[0] in "\"'" else ""
    return f"{match['name']}{quote}{MARK}{quote}"


def _without_credentials(match: re.Match[str]) -> str:
    # In ssh://user@host the user is part of the address and no secret; in https://token@host it is one.
    if not match["password"] and match["scheme"].lower().startswith(("ssh", "git+ssh", "sftp")):
        return match[0]
    return f"{match['scheme']}{MARK}@"

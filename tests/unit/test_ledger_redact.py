"""What is hidden, and what is not: a report that hides too much is not read."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.redact import MARK, redact, redact_argv, redact_data

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password=hunter2 next", f"password={MARK} next"),
        ("+db_password: hunter2\n+port: 1", f"+db_password: {MARK}\n+port: 1"),
        ('{"api_key": "abc def", "n": 1}', f'{{"api_key": "{MARK}", "n": 1}}'),
        ("{token: abc, n: 1}", f"{{token: {MARK}, n: 1}}"),
        (r"{\"token\": \"abc def\", \"n\": 1}", rf"{{\"token\": \"{MARK}\", \"n\": 1}}"),
        (r'"token": "a\"bc" next', f'"token": "{MARK}" next'),
        ("--set x_password=a,b}c!d", f"--set x_password={MARK}"),
        ("password: a,b}c!d", f"password: {MARK}"),
        ("HF_TOKEN='abc def' hf download", f"HF_TOKEN='{MARK}' hf download"),
        ("Authorization: Bearer abcdefghijkl", f"Authorization: Bearer {MARK}"),
        ("get https://ada:pw@mirror.example/x", f"get https://{MARK}@mirror.example/x"),
        ("get https://ghp_abc@mirror.example/x", f"get https://{MARK}@mirror.example/x"),
        ("saw hf_abcdefghijklmnopqrstuv there", f"saw {MARK} there"),
        (f"before\n{KEY}\nafter", f"before\n{MARK}\nafter"),
        (KEY[:60], MARK),
    ],
)
def test_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "needs a sudo password: add --ask-become-pass",
        "HF_TOKEN_PATH=/run/hf/token",
        "docker_repository_key_url: https://download.docker.com/linux/debian/gpg",
        "ssh://ada@host.example:22 answers",
        "-----BEGIN PUBLIC KEY-----",
        "the token",
        'password: ""',
    ],
)
def test_shown(text: str) -> None:
    assert redact(text) == text


def test_known_secrets_go_wherever_they_stand() -> None:
    assert redact("xx-opensesame-yy opensesame", ["opensesame"]) == f"xx-{MARK}-yy {MARK}"
    assert redact("a cat in a category", ["cat"]) == f"a {MARK} in a category"
    assert redact("abcdefgh", ["abcde", "abcdefgh", ""]) == MARK


def test_data_is_hidden_by_name_at_any_depth() -> None:
    data = {
        "a": [{"registry_password": "x", "user": "ada"}],
        "secrets": {"one": "x", "more": ["y"]},
        "password": 1234,
        "max_tokens": 4096,
        "token": None,
        "use_token": True,
        "private_key_path": "/etc/key",
        "reasons": [{"subject": "docker_password", "choice": "x", "because": "given"}],
    }
    assert redact_data(data) == {
        "a": [{"registry_password": MARK, "user": "ada"}],
        "secrets": {"one": MARK, "more": [MARK]},
        "password": MARK,
        "max_tokens": 4096,
        "token": None,
        "use_token": True,
        "private_key_path": "/etc/key",
        "reasons": [{"subject": "docker_password", "choice": MARK, "because": "given"}],
    }


def test_command_lines() -> None:
    argv = ["apply", "--set", "x_token=abc", "--token", "abc", "--vault-password-file", "/etc/v", "--secret=abc", "h"]
    shown = (
        "apply",
        "--set",
        f"x_token={MARK}",
        "--token",
        MARK,
        "--vault-password-file",
        "/etc/v",
        f"--secret={MARK}",
        "h",
    )
    assert redact_argv(argv) == shown


@given(st.text(), st.text(min_size=1))
def test_a_known_secret_never_survives(text: str, secret: str) -> None:
    """A long one goes even inside words."""
    long_secret = f"{secret}-secret!"
    shown = redact(f"{text}{long_secret}{text}", [long_secret])
    assert long_secret not in shown or long_secret in MARK


@pytest.mark.parametrize("piece", ["a.+-", "token", "password: x", "http://", "a:", "-----BEGIN PRIVATE KEY-----", " "])
def test_a_megabyte_of_anything_takes_no_time(piece: str) -> None:
    """A host's output is hostile input; quadratic patterns would take minutes here."""
    before = time.process_time()
    redact(piece * (1_000_000 // len(piece)))
    assert time.process_time() - before < 5

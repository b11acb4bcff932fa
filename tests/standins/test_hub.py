"""The hub that stands in is good enough for the real client, and fails as it is told to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.content import roles_dir
from tests.standins.hub import Fault, Hub, Repository

HF = Path(sys.executable).parent / "hf"
FILES = {"weights.bin": bytes(range(256)) * 94_000, "config.json": b'{"hidden_size": 8}\n', "odd [1].txt": b"odd"}
TOKEN = "hf_test"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture
def model(hub: Hub) -> Repository:
    return hub.add("acme/tiny", FILES)


def client(hub: Hub, home: Path, *command: str | Path, stdin: str = "", token: str = "") -> tuple[int, str, str]:
    """Run the real client in a home of its own; its exit code and what it said."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "HF_ENDPOINT": hub.endpoint}
    environment |= {f"HF_HUB_DISABLE_{name}": "1" for name in ("UPDATE_CHECK", "TELEMETRY", "PROGRESS_BARS")}
    if token:
        environment["HF_TOKEN"] = token
    done = subprocess.run(
        [*map(str, command)], env=environment, input=stdin, capture_output=True, text=True, timeout=100, check=False
    )
    return done.returncode, done.stdout, done.stderr


# Runs a program whose waits between two tries take no time.
IMPATIENT = "import runpy, sys, time; time.sleep = lambda _: None; runpy.run_path(sys.argv[1], run_name='__main__')"


def bring(hub: Hub, home: Path, model: Repository, *by: str, **changes: object) -> dict[str, Any]:
    """What the role's own program answers, run by Python with these words before it."""
    request = {**model.manifest(), "include": [], "good": {}, "bad": [], "cache": str(home), "endpoint": hub.endpoint}
    request |= {"token": "", "reserve_bytes": 0, **changes}
    program = roles_dir() / "model_cache/files/fetch.py"
    code, out, err = client(hub, home, sys.executable, *by, program, stdin=json.dumps(request))
    assert code == 0, err
    answer: dict[str, Any] = json.loads(out)
    return answer


def test_the_real_client_downloads_a_pinned_revision(hub: Hub, model: Repository, tmp_path: Path) -> None:
    code, out, err = client(hub, tmp_path, HF, "download", model.name, "--revision", model.revision, "--quiet")
    assert code == 0, err
    for path, content in FILES.items():
        assert (Path(out.strip()) / path).read_bytes() == content


def test_the_real_client_verifies_what_it_downloaded(hub: Hub, model: Repository, tmp_path: Path) -> None:
    _, out, _ = client(hub, tmp_path, HF, "download", model.name, "--revision", model.revision, "--quiet")
    verify = (HF, "cache", "verify", model.name, "--revision", model.revision)
    assert client(hub, tmp_path, *verify)[0] == 0
    (Path(out.strip()) / "config.json").resolve().write_bytes(b"altered")
    assert client(hub, tmp_path, *verify)[0] == 1


def test_the_real_client_is_refused_a_revision_that_is_not_there(hub: Hub, model: Repository, tmp_path: Path) -> None:
    code, _, err = client(hub, tmp_path, HF, "download", model.name, "--revision", "0" * 40)
    assert code == 1
    assert "Revision" in err


def test_a_private_model_needs_its_token_and_the_content_store_never_sees_it(hub: Hub, tmp_path: Path) -> None:
    model = hub.add("acme/private", FILES, token=TOKEN)
    download = (HF, "download", model.name, "--revision", model.revision)
    assert client(hub, tmp_path, *download)[0] == 1
    assert client(hub, tmp_path, *download, token="hf_wrong")[0] == 1
    assert client(hub, tmp_path, *download, token=TOKEN)[0] == 0
    fetched = [request for request in hub.requests if request.path.startswith("/content/")]
    assert [request.authorized for request in fetched] == [False]


def test_the_real_client_resumes_a_cut_transfer_by_range(hub: Hub, model: Repository, tmp_path: Path) -> None:
    hub.misbehave("weights.bin", Fault(cut_after=15_000_000))
    code, _, err = client(hub, tmp_path, HF, "download", model.name, "--revision", model.revision)
    assert code == 0, err
    assert [request.range for request in hub.requests if request.status == 206] == ["bytes=10485760-"]


def test_the_real_client_alone_takes_wrong_bytes(hub: Hub, model: Repository, tmp_path: Path) -> None:
    """Why the role compares checksums itself: should this fail, the client has learnt to."""
    hub.misbehave("weights.bin", Fault(flip=True))
    code, out, _ = client(hub, tmp_path, HF, "download", model.name, "--revision", model.revision, "--quiet")
    assert code == 0
    assert (Path(out.strip()) / "weights.bin").read_bytes() != FILES["weights.bin"]


def test_the_role_refuses_wrong_bytes_and_leaves_nothing_of_them(hub: Hub, model: Repository, tmp_path: Path) -> None:
    hub.misbehave("weights.bin", Fault(flip=True))
    failed = str(bring(hub, tmp_path, model)["failed"])
    assert failed.startswith(f"acme/tiny weights.bin: expected {model.files['weights.bin'].sha256}, got ")
    assert not list(tmp_path.rglob("*.part"))
    hub.forget()
    assert "weights.bin" in bring(hub, tmp_path, model)["files"]
    assert hub.content_bytes() == len(FILES["weights.bin"])


def test_the_role_goes_on_from_a_part(hub: Hub, model: Repository, tmp_path: Path) -> None:
    blobs = tmp_path / "models--acme--tiny/blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{model.files['weights.bin'].sha256}.part").write_bytes(FILES["weights.bin"][:20_000_000])
    answer = bring(hub, tmp_path, model)
    assert answer["resumed"] == 20_000_000
    assert hub.content_bytes() == sum(map(len, FILES.values())) - 20_000_000


def test_the_role_throws_a_foreign_part_away(hub: Hub, model: Repository, tmp_path: Path) -> None:
    blobs = tmp_path / "models--acme--tiny/blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{model.files['weights.bin'].sha256}.part").write_bytes(b"not what the hub holds")
    assert "it was removed" in str(bring(hub, tmp_path, model)["failed"])
    assert bring(hub, tmp_path, model)["resumed"] == 0


def test_the_role_replaces_a_file_that_is_wrong(hub: Hub, model: Repository, tmp_path: Path) -> None:
    bring(hub, tmp_path, model)
    held = tmp_path / f"models--acme--tiny/snapshots/{model.revision}/config.json"
    held.resolve().write_bytes(b"altered")
    hub.forget()
    assert bring(hub, tmp_path, model, bad=["config.json"])["downloaded"] == ["config.json"]
    assert held.read_bytes() == FILES["config.json"]
    assert hub.content_bytes() == len(FILES["config.json"])


def test_the_role_never_removes_what_lies_outside_the_cache(hub: Hub, model: Repository, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    bring(hub, cache, model)
    precious = tmp_path / "precious"
    precious.write_text("keep")
    held = cache / f"models--acme--tiny/snapshots/{model.revision}/config.json"
    held.unlink()
    held.symlink_to(precious)
    bring(hub, cache, model, bad=["config.json"])
    assert precious.read_text() == "keep"
    assert held.read_bytes() == FILES["config.json"]


def test_a_hub_that_does_not_answer_is_told(hub: Hub, model: Repository, tmp_path: Path) -> None:
    """The client tries again, after waits of 20 s in all."""
    nowhere = "http://127.0.0.1:9"
    told = bring(hub, tmp_path, model, "-c", IMPATIENT, endpoint=nowhere)["failed"]
    assert str(told).startswith(f"acme/tiny: {nowhere}: ")

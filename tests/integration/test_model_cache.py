"""The declared models on a real target, from a hub that misbehaves: every byte is proved, none is fetched twice."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pytest
import yaml

from provision.translate import role_variables
from tests.integration.conftest import Outcome, Target
from tests.standins.hub import Fault, Hub, Repository

pytestmark = pytest.mark.lab

WEIGHTS = random.Random(7).randbytes(24_000_000)  # the client writes in pieces of 10 MiB
CONFIG = b'{"hidden_size": 8}\n'
TOKEN = "hf_this_must_not_be_seen_anywhere"
HUB = "/srv/models/huggingface/hub"


@dataclass
class Cache:
    """A target with the role applied, and the hub that it downloads from."""

    target: Target
    hub: Hub

    def given(self, settings: dict[str, Any]) -> dict[str, Any]:
        """A test's settings over what the target's mirrors and the stand-in come to."""
        mirrors = {name: value for name, _, value in role_variables(self.mirrors())}
        return {**mirrors, "model_cache_endpoint": self.hub.endpoint, "model_cache_reserve_gb": 0, **settings}

    def mirrors(self) -> dict[str, Any]:
        inventory = yaml.safe_load(Path(self.target.host.inventory).read_text())
        mirrors: dict[str, Any] = inventory["all"]["children"]["lab"]["hosts"][self.target.name]["mirrors"]
        return mirrors

    def apply(self, *words: str, roles: tuple[str, ...] = ("model_cache",), **settings: Any) -> Outcome:
        return self.target.play(roles, self.given(settings), *words)

    def start(self, output: int | TextIO, *words: str, **settings: Any) -> subprocess.Popen[str]:
        """Begin to apply."""
        argv, environment = self.target.playing(["model_cache"], self.given(settings), *words)
        return subprocess.Popen(argv, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True)

    def place(self, repository: Repository, path: str = "weights.bin") -> str:
        storage = "models--" + repository.name.replace("/", "--")
        return f"{HUB}/{storage}/snapshots/{repository.revision}/{path}"


@pytest.fixture(scope="module")
def cache(new_target: Callable[..., Target], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    target = new_target("models")
    gateway = target.sh("ip -4 route show default").split()[2]
    with Hub(gateway) as hub:
        made = Cache(target, hub)
        first = made.apply(roles=("base", "uv", "model_cache"))
        assert first.code == 0, first.output[-4000:]
        yield made


@pytest.fixture
def model(cache: Cache, request: pytest.FixtureRequest) -> Repository:
    """A model of the test's own: weights as an LFS file, a small file beside it."""
    cache.hub.forget()
    name = "acme/" + request.node.name.removeprefix("test_").replace("_", "-")
    return cache.hub.add(name, {"weights.bin": WEIGHTS + name.encode(), "config.json": CONFIG})


def test_check_mode_foretells_the_download_and_a_second_run_asks_the_hub_nothing(
    cache: Cache, model: Repository
) -> None:
    models = [model.manifest()]
    foretold = cache.apply("--check", model_cache_models=models)
    assert (foretold.code, len(foretold.changed)) == (0, 1)
    assert cache.hub.requests == []
    applied = cache.apply(model_cache_models=models)
    assert (applied.code, len(applied.changed)) == (0, 1), applied.output
    assert cache.target.sh(f"sha256sum {cache.place(model)}").split()[0] == model.files["weights.bin"].sha256
    cache.hub.forget()
    again = cache.apply(model_cache_models=models)
    assert again.came_to == (0, []), again.output
    assert cache.hub.requests == []


def test_globs_bring_the_files_they_name(cache: Cache, model: Repository) -> None:
    models = [{**model.manifest("weights.bin"), "include": ["*.json"]}]
    assert len(cache.apply(model_cache_models=models).changed) == 1
    assert cache.target.sh(f"cat {cache.place(model, 'config.json')}") == CONFIG.decode()
    assert cache.apply("--check", model_cache_models=models).came_to == (0, [])
    cache.target.sh(f"echo altered > {cache.place(model, 'config.json')}")
    assert len(cache.apply("--check", model_cache_models=models).changed) == 1


def test_a_cut_transfer_goes_on_where_it_stopped(cache: Cache, model: Repository) -> None:
    cache.hub.misbehave("weights.bin", Fault(cut_after=15_000_000))
    applied = cache.apply(model_cache_models=[model.manifest("weights.bin")])
    assert applied.code == 0, applied.output
    assert [request.range for request in cache.hub.requests if request.status == 206] == ["bytes=10485760-"]


def test_a_killed_download_goes_on_in_the_next_run(cache: Cache, model: Repository) -> None:
    models = [model.manifest("weights.bin")]
    cache.hub.misbehave("weights.bin", Fault(stall_after=15_000_000))
    running = cache.start(subprocess.PIPE, model_cache_models=models)
    assert cache.hub.stalled.wait(60)
    time.sleep(1)
    cache.target.sh("kill -9 $(pgrep -f '^/opt/provision/hf/bin/python .*/fetch.py')")
    out, _ = running.communicate(timeout=60)
    assert running.returncode == 2
    assert f"{model.name}: the download stopped (exit -9)" in out
    assert cache.target.sh(f"ls {cache.place(model)} 2>&1", check=False).endswith("No such file or directory\n")
    cache.hub.forget()
    again = cache.apply(model_cache_models=models)
    assert again.code == 0, again.output
    size = len(model.files["weights.bin"].content)
    assert cache.hub.content_bytes() == size - 10_485_760


def test_wrong_bytes_are_refused_by_name_and_fetched_again(cache: Cache, model: Repository) -> None:
    models = [model.manifest()]
    cache.hub.misbehave("weights.bin", Fault(flip=True))
    refused = cache.apply(model_cache_models=models)
    assert refused.code == 2
    sha256 = model.files["weights.bin"].sha256
    assert f"{model.name} weights.bin: expected {sha256}, got " in refused.output
    assert "it was removed and the next run downloads it again" in refused.output
    storage = cache.place(model).split("/snapshots")[0]
    assert sha256 not in cache.target.sh(f"ls {storage}/blobs")
    again = cache.apply(model_cache_models=models)
    assert (again.code, len(again.changed)) == (0, 1), again.output


def test_a_manifest_that_contradicts_the_hub_downloads_nothing(cache: Cache, model: Repository) -> None:
    wrong = {**model.manifest(), "files": {"weights.bin": "0" * 64, "missing.bin": "1" * 64}}
    refused = cache.apply(model_cache_models=[wrong])
    assert refused.code == 2
    assert f"expected {'0' * 64}, the hub holds {model.files['weights.bin'].sha256}" in refused.output
    assert f"{model.name} has no file missing.bin at this revision" in refused.output
    assert cache.hub.content_bytes() == 0


def test_a_failing_hub_is_told(cache: Cache, model: Repository) -> None:
    cache.hub.misbehave("config.json", Fault(status=503))
    refused = cache.apply(model_cache_models=[model.manifest()])
    assert refused.code == 2
    assert f"{model.name} config.json: {cache.hub.endpoint} answered 503" in refused.output


def test_a_disk_without_room_refuses_before_the_first_byte(cache: Cache, model: Repository) -> None:
    refused = cache.apply(model_cache_models=[model.manifest()], model_cache_reserve_gb=1_000_000)
    assert refused.code == 2
    assert f"{model.name} needs 0.0 GB and 1000000.0 GB to spare in {HUB}" in refused.output
    assert cache.hub.content_bytes() == 0


def test_an_altered_model_is_found_and_mended(cache: Cache, model: Repository) -> None:
    models = [model.manifest()]
    assert cache.apply(model_cache_models=models).code == 0
    place = cache.place(model)
    # Same size, same modification time: what a careless copy or an attacker would leave.
    cache.target.sh(f"touch -r {place} /tmp/then; printf X | dd of={place} conv=notrunc; touch -r /tmp/then {place}")
    offline = cache.apply(model_cache_models=models, model_cache_offline=True)
    assert offline.code == 2
    assert f"{model.name} weights.bin: expected {model.files['weights.bin'].sha256}, got " in offline.output
    assert len(cache.apply("--check", model_cache_models=models, model_cache_offline=False).changed) == 2
    # The environment is online again, and the model is mended.
    assert len(cache.apply(model_cache_models=models).changed) == 2
    assert cache.target.sh(f"sha256sum {place}").split()[0] == model.files["weights.bin"].sha256


def test_offline_verifies_what_is_there_and_names_what_is_not(cache: Cache, model: Repository) -> None:
    models = [model.manifest()]
    nowhere = "http://127.0.0.1:9"
    refused = cache.apply(model_cache_models=models, model_cache_offline=True, model_cache_endpoint=nowhere)
    assert refused.code == 2
    assert f"{model.name} config.json: expected {model.files['config.json'].sha256}, it is not there" in refused.output
    assert cache.apply(model_cache_models=models).code == 0
    settings = {"model_cache_models": models, "model_cache_offline": True, "model_cache_endpoint": nowhere}
    assert len(cache.apply(**settings).changed) == 1  # only the environment
    assert cache.apply(**settings, model_cache_verify="full").came_to == (0, [])
    assert "HF_HUB_OFFLINE=1" in cache.target.sh("runuser -u ml -- sh -lc env")


def test_the_token_of_a_private_model_is_seen_nowhere(cache: Cache, tmp_path: Path) -> None:
    cache.hub.forget()
    model = cache.hub.add("acme/private", {"weights.bin": WEIGHTS + b"private"}, token=TOKEN)
    models = [model.manifest()]
    refused = cache.apply(model_cache_models=models)
    assert refused.code == 2
    assert f"acme/private is not found at {cache.hub.endpoint}, or not to be read without a token" in refused.output
    cache.hub.misbehave("weights.bin", Fault(stall_after=15_000_000))
    log = tmp_path / "log"
    with log.open("w") as output:
        running = cache.start(output, "-vvv", model_cache_models=models, model_cache_token=TOKEN)
        assert cache.hub.stalled.wait(60), log.read_text()[-3000:]
        running_commands = cache.target.sh("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'")
        # Its exit status says nothing, since files come and go while it reads: that it found what was put there does.
        places = "/tmp /var /srv /etc /opt /run /home /root"
        files = cache.target.sh(f"echo {TOKEN} > /var/found; grep -rsl {TOKEN} {places}; rm /var/found")
        cache.hub.release()
        assert running.wait(120) == 0, log.read_text()[-3000:]
    assert TOKEN not in running_commands + log.read_text()
    assert files == "/var/found\n"
    assert not any(request.authorized for request in cache.hub.requests if request.path.startswith("/content/"))


def test_a_member_loads_what_the_role_brought_and_shares_what_it_brings(cache: Cache, model: Repository) -> None:
    cache.target.sh("for name in anna bert; do id $name > /dev/null 2>&1 || useradd -m -s /bin/bash $name; done")
    settings = {"model_cache_models": [model.manifest()], "model_cache_members": ["anna", "bert"]}
    assert cache.apply(**settings).code == 0
    other = cache.hub.add("acme/of-anna", {"weights.bin": b"anna" * 1000, "config.json": CONFIG})
    fetch = "hf download {} --revision {} --quiet"
    cache.target.sh(f"su - anna -c 'HF_HUB_DISABLE_UPDATE_CHECK=1 {fetch.format(other.name, other.revision)}'")
    cache.hub.forget()
    for loaded in (model, other):
        command = f"HF_HUB_OFFLINE=1 {fetch.format(loaded.name, loaded.revision)}"
        assert cache.target.sh(f"su - bert -c '{command}'").strip().endswith(loaded.revision)
    assert cache.hub.content_bytes() == 0
    cache.target.sh(f"su - bert -c 'rm -r {HUB}/models--acme--of-anna'")


def test_an_unknown_member_is_refused_by_name(cache: Cache) -> None:
    refused = cache.apply(model_cache_members=["nobody-here"])
    assert refused.code == 2
    assert "no account nobody-here on this host" in refused.output

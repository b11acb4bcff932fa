"""The caches are shared by their group and by nobody else, and the declared models are what was pinned."""

from __future__ import annotations

import json
import shlex

HF_PYTHON = "/opt/provision/hf/bin/python"
RECORD = "/var/lib/provision/model_cache.json"
CACHES = ("huggingface/hub", "torch", "ollama", "vllm", "pip", "uv")
LOAD = """
import json, sys, glob
from huggingface_hub import constants, snapshot_download
assert constants.HF_HUB_OFFLINE, "the client is not offline"
print(constants.HF_HUB_CACHE)
for repo, revision, files in json.loads(sys.argv[1]):
    snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=[glob.escape(f) for f in files])
"""


def run(host, *words):
    """Run a command as root; its result."""
    with host.sudo():
        return host.run(shlex.join(words))


def as_member(host, plan, script):
    """Run a script as somebody who is in the group and has no other right."""
    group = ["--reuid=65534", "--regid=65534", "--groups", plan.settings["model_cache_group"]]
    return run(host, "setpriv", *group, "sh", "-c", script)


def as_stranger(host, script):
    return run(host, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", script)


def as_service(host, plan, *words):
    return run(host, "runuser", "-u", plan.settings["model_cache_user"], "--", *words)


def root(plan):
    return plan.settings["model_cache_root"]


def environment(host):
    """The declared environment, from the file that units read."""
    lines = host.file("/etc/provision/model-cache.env").content_string.splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def models(plan):
    return [model | {"include": model.get("include") or []} for model in plan.settings["model_cache_models"]]


def snapshot(plan, model):
    storage = "models--" + model["repo"].replace("/", "--")
    return f"{root(plan)}/huggingface/hub/{storage}/snapshots/{model['revision']}"


def test_the_caches_belong_to_their_group(host, plan):
    wanted = f"root {plan.settings['model_cache_group']} 2775"
    for cache in ("", *CACHES):
        assert host.check_output("stat -c '%%U %%G %%a' %s", f"{root(plan)}/{cache}") == wanted, cache


def test_the_declared_members_are_in_the_group(host, plan):
    for member in [plan.settings["model_cache_user"], *plan.settings["model_cache_members"]]:
        assert plan.settings["model_cache_group"] in host.user(member).groups, member


def test_what_one_member_writes_another_changes_and_removes(host, plan):
    for cache in CACHES:
        place = f"{root(plan)}/{cache}/.provision-verify"
        try:
            written = as_service(host, plan, "bash", "-lc", f"mkdir {place} && echo one > {place}/file")
            assert written.succeeded, written.stderr
            changed = as_member(host, plan, f"echo two >> {place}/file && rm {place}/file && rmdir {place}")
            assert changed.succeeded, changed.stderr
        finally:
            run(host, "rm", "-rf", place)


def test_a_stranger_reads_and_cannot_write(host, plan):
    for cache in CACHES:
        assert as_stranger(host, f"ls {root(plan)}/{cache}").succeeded, cache
        place = f"{root(plan)}/{cache}/.provision-stranger"
        try:
            assert as_stranger(host, f"touch {place}").failed, cache
        finally:
            run(host, "rm", "-f", place)


def test_a_members_login_has_the_environment(host, plan):
    declared = environment(host)
    assert declared["HF_HUB_CACHE"] == f"{root(plan)}/huggingface/hub"
    assert declared.get("HF_HUB_OFFLINE") == ("1" if plan.settings["model_cache_offline"] else None)
    for member in [plan.settings["model_cache_user"], *plan.settings["model_cache_members"]]:
        shown = run(host, "runuser", "-u", member, "--", "sh", "-lc", "env")
        for name, value in declared.items():
            home = host.user(member).home
            assert f"{name}={value.replace('~', home, 1)}" in shown.stdout.splitlines(), member


def test_roots_login_keeps_caches_of_its_own(host):
    assert "HF_HUB_CACHE=" not in run(host, "bash", "-lc", "env").stdout


def test_a_unit_with_the_drop_in_shares_the_cache(host, plan):
    lines = host.file("/etc/provision/model-cache.conf").content_string.split("[Service]\n")[1].splitlines()
    settings = [word for line in lines for word in ("--property", line)]
    place = f"{root(plan)}/huggingface/hub/.provision-unit"
    script = f"env && umask && touch {place} && stat -c %A {place} && rm {place}"
    unit = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--property", "User=nobody", *settings]
    ran = run(host, *unit, "sh", "-c", script)
    assert ran.succeeded, ran.stderr
    shown = ran.stdout.splitlines()
    assert "0002" in shown
    assert "-rw-rw-r--" in shown
    for name, value in environment(host).items():
        assert f"{name}={value}" in shown


def test_no_token_lies_in_the_shared_caches(host, plan):
    found = run(host, "find", root(plan), "(", "-name", "token", "-o", "-name", "stored_tokens", ")", "-print")
    assert found.stdout == ""


def test_only_their_owners_read_the_members_tokens(host, plan):
    for member in [plan.settings["model_cache_user"], *plan.settings["model_cache_members"]]:
        home = host.user(member).home
        loose = run(host, "find", f"{home}/.cache/huggingface", "-maxdepth", "1", "-name", "*token*", "-perm", "/077")
        assert loose.stdout == "", "run chmod 600 on it"


def test_the_models_are_what_was_pinned(host, plan):
    """With `stat` a file is read again only when somebody wrote to it since it was proved; with `full` always."""
    with host.sudo():
        held = host.file(RECORD)
        record = json.loads(held.content_string) if held.exists else {}
    expected, vouched = {}, {}
    for model in models(plan):
        known = record.get(f"{model['repo']}@{model['revision']}", {"files": {}})["files"]
        pinned = {path: entry["sha256"] for path, entry in known.items()} | model["files"]
        expected |= {f"{snapshot(plan, model)}/{path}": sha256 for path, sha256 in pinned.items()}
        vouched |= {f"{snapshot(plan, model)}/{path}": entry for path, entry in known.items()}
    if plan.settings["model_cache_verify"] == "stat" and expected:
        shown = run(host, "stat", "-L", "-c", "%s %.9Y %.9Z %i %n", *expected).stdout
        for line in shown.splitlines():
            size, written, moved, inode, path = line.split(" ", 4)
            now = [int(size), int(written.replace(".", "")), int(moved.replace(".", "")), int(inode)]
            if vouched.get(path) == {"sha256": expected[path], "identity": now}:
                del expected[path]
    if expected:
        shown = run(host, "sha256sum", "-z", "--", *expected).stdout
        found = {line[66:]: line[:64] for line in shown.split("\0") if line}
        assert found == expected


def test_the_client_loads_the_models_offline(host, plan):
    wanted = json.dumps([[model["repo"], model["revision"], [*model["files"]]] for model in models(plan)])
    command = f"HF_HUB_OFFLINE=1 {HF_PYTHON} -c {shlex.quote(LOAD)} {shlex.quote(wanted)}"
    loaded = as_service(host, plan, "bash", "-lc", command)
    assert loaded.succeeded, loaded.stderr
    assert loaded.stdout.strip() == f"{root(plan)}/huggingface/hub"


def test_the_hub_command_answers(host, plan):
    told = as_service(host, plan, "bash", "-lc", "HF_HUB_OFFLINE=1 hf cache ls --format json")
    assert told.succeeded, told.stderr

"""Each environment is exactly its lock, belongs to root, and computes for the service user."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from provision.model import HostPlan

LOCKS = Path(__file__).parents[1] / "files" / "locks"

# The product of two seeded matrices by torch, by plain Python and through numpy's view of the same memory.
COMPUTE = """
import json, torch
torch.manual_seed(20)
a, b = torch.rand(40, 40, dtype=torch.float64), torch.rand(40, 40, dtype=torch.float64)
rows, columns = a.tolist(), b.t().tolist()
plain = [[sum(x * y for x, y in zip(row, column)) for column in columns] for row in rows]
product = a @ b
error = (product - torch.tensor(plain, dtype=torch.float64)).abs().max().item()
print(json.dumps({"error": error, "numpy": float(product.numpy().sum()), "torch": product.sum().item()}))
"""

# Without importing torch, which would take seconds.
BUILD = """
import importlib.util, json, runpy
found = runpy.run_path(importlib.util.find_spec("torch").submodule_search_locations[0] + "/version.py")
print(json.dumps({"version": found["__version__"], "cuda": found["cuda"]}))
"""

DISTRIBUTIONS = """
import importlib.metadata, json, re
names = {re.sub("[-_.]+", "-", d.metadata["Name"]).lower(): d.version for d in importlib.metadata.distributions()}
print(json.dumps(names))
"""

# Every file that a wheel's RECORD states a hash for; what uv itself writes (scripts, direct_url) is stated there too.
ALTERED = """
import base64, hashlib, importlib.metadata, json
def digest(path):
    found = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            found.update(block)
    return base64.urlsafe_b64encode(found.digest()).rstrip(b"=").decode()
altered = []
for distribution in importlib.metadata.distributions():
    for file in distribution.files or []:
        path = file.locate()
        if file.hash and not (path.is_file() and digest(path) == file.hash.value):
            altered.append(str(file))
print(json.dumps(altered))
"""


def environments(plan: HostPlan) -> list[str]:
    return [entry["name"] for entry in plan.settings["python_ml_environments"]]


def home(plan: HostPlan, name: str) -> str:
    return f"{plan.settings['python_ml_root']}/{name}"


def lock(plan: HostPlan, name: str) -> dict[str, str]:
    """Version by distribution name, as locked; a pin under a condition keeps its marker behind the version."""
    entry = next(entry for entry in plan.settings["python_ml_environments"] if entry["name"] == name)
    file = LOCKS / f"{entry['requirements']}-{plan.settings['python_ml_torch_backend']}.txt"
    text = (Path(entry["requirements"]) if entry["requirements"].startswith("/") else file).read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^\\\n]+?) *\\?$", text, re.MULTILINE))


def answer(host: Host, plan: HostPlan, name: str, script: str) -> Any:
    """What the environment's Python prints as JSON when the service user runs it; a failure is an assertion."""
    user = shlex.quote(plan.settings["python_ml_user"])
    with host.sudo():
        found = host.run(f"cd / && runuser -u {user} -- {home(plan, name)}/bin/python -c {shlex.quote(script)}")
    assert found.succeeded, f"{name}: {found.stderr.strip()[-600:]}"
    return json.loads(found.stdout)


def test_a_tensor_is_computed_by_the_service_user(host: Host, plan: HostPlan) -> None:
    for name in environments(plan):
        if "torch" in lock(plan, name):
            found = answer(host, plan, name, COMPUTE)
            assert found["error"] < 1e-12, f"{name}: torch and plain Python differ by {found['error']}"
            assert found["numpy"] == pytest.approx(found["torch"], rel=1e-12)


def test_torch_is_the_planned_build(host: Host, plan: HostPlan) -> None:
    for name in environments(plan):
        if "torch" in lock(plan, name):
            found = answer(host, plan, name, BUILD)
            backend = f"cu{found['cuda'].replace('.', '')}" if found["cuda"] else "cpu"
            assert (found["version"], backend) == (lock(plan, name)["torch"], plan.frameworks.torch_backend)


def test_every_distribution_is_the_locked_one(host: Host, plan: HostPlan) -> None:
    for name in environments(plan):
        installed, locked = answer(host, plan, name, DISTRIBUTIONS), lock(plan, name)
        strange = {f"{key}=={value}" for key, value in installed.items() if locked.get(key, "").split(" ;")[0] != value}
        missing = {f"{key}=={value}" for key, value in locked.items() if key not in installed and ";" not in value}
        assert not strange, f"{name}: not locked: {sorted(strange)}"
        assert not missing, f"{name}: missing: {sorted(missing)}"


def test_every_installed_file_is_the_wheels(host: Host, plan: HostPlan) -> None:
    for name in environments(plan):
        altered = answer(host, plan, name, ALTERED)
        remedy = f"rm -r $(readlink -f {home(plan, name)}), and apply again"
        assert altered == [], f"{name}: {len(altered)} files differ, such as {altered[:3]}; {remedy}"


def test_the_service_user_cannot_change_the_environments(host: Host, plan: HostPlan) -> None:
    root, user = plan.settings["python_ml_root"], shlex.quote(plan.settings["python_ml_user"])
    with host.sudo():
        search = f"find {root} -name .cache -prune -o ! -type l -writable -print -quit"
        found = host.check_output(f"cd / && runuser -u {user} -- {search}")
    assert found == "", f"{user} can write {found}"


def test_no_environment_is_unfinished(host: Host, plan: HostPlan) -> None:
    """Each directory of an environment holds a stamp, and one link each leads to those that are declared."""
    root = plan.settings["python_ml_root"]
    with host.sudo():
        homes = host.check_output(f"find {root} -mindepth 1 -maxdepth 1 -type d -name '.*-*'").split()
        stamped = host.check_output(f"find {root} -mindepth 2 -maxdepth 2 -name provision.json -printf '%h '").split()
        linked = {name: host.file(home(plan, name)).linked_to for name in environments(plan)}
    assert sorted(homes) == sorted(stamped), "an environment's build was not finished"
    for name, target in linked.items():
        assert target in homes, f"{home(plan, name)} leads to no environment"


def test_the_service_user_is_in_its_group(host: Host, plan: HostPlan) -> None:
    user = host.user(plan.settings["python_ml_user"])
    assert user.exists
    assert plan.settings["python_ml_group"] in user.groups

"""Each environment is exactly its lock, belongs to root, and computes for the service user."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from provision.catalog import load_catalog
from provision.gpu_health import bandwidth_fault, matmul_fault
from provision.model import HostPlan
from provision.nvidia_smi import parse
from provision.solver.frameworks import runs_on

LOCKS = Path(__file__).parents[1] / "files" / "locks"

# The product of two matrices by the framework and by plain Python, on the CPU: the difference has to be nothing.
PLAIN = """
import json, random
random.seed(20)
a, b = ([[random.random() for _ in range(40)] for _ in range(40)] for _ in range(2))
plain = [[sum(x * y for x, y in zip(row, column)) for column in zip(*b)] for row in a]
def tell(product):
    print(json.dumps(max(abs(x - y) for mine, row in zip(product.tolist(), plain) for x, y in zip(mine, row))))
"""
COMPUTE = {
    "torch": """
import torch
tell((torch.tensor(a, dtype=torch.float64) @ torch.tensor(b, dtype=torch.float64)).numpy())
""",
    "tensorflow": """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
with tf.device("/CPU:0"):
    tell(tf.linalg.matmul(tf.constant(a, tf.float64), tf.constant(b, tf.float64)).numpy())
""",
    "openvino": """
import numpy, openvino
from openvino import opset13 as ops
left, right = (ops.parameter([40, 40], numpy.float64) for _ in range(2))
model = openvino.Core().compile_model(openvino.Model([ops.matmul(left, right, False, False)], [left, right]), "CPU",
                                      {"INFERENCE_PRECISION_HINT": "f32"})
tell(model([numpy.array(a), numpy.array(b)])[0])
""",
}
# OpenVINO computes doubles as 32-bit floats on a CPU.
PRECISION = {"torch": 1e-12, "tensorflow": 1e-12, "openvino": 1e-4}

# The compute capabilities that a build holds code for: it knows them without a card.
CAPABILITIES = {
    "torch": "import json, torch; print(json.dumps(torch._C._cuda_getArchFlags()))",
    "tensorflow": """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import json, tensorflow as tf
print(json.dumps(" ".join(tf.sysconfig.get_build_info()["cuda_compute_capabilities"])))
""",
}

# On each card: a product checked against the CPU's, and the best of a few timed copies (GB/s, reads and writes both
# counted) and FP16 products (TFLOPS).
CARDS = """
import json, torch
def best(times, work, warm=3):
    least = float("inf")
    for turn in range(times + warm):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record(); work(); end.record(); torch.cuda.synchronize()
        least = least if turn < warm else min(least, start.elapsed_time(end) / 1000)
    return least
told = []
for number in range(torch.cuda.device_count()):
    with torch.cuda.device(number):
        found = torch.cuda.get_device_properties(number)
        a, b = torch.rand(256, 256, dtype=torch.float64), torch.rand(256, 256, dtype=torch.float64)
        error = ((a.cuda() @ b.cuda()).cpu() - a @ b).abs().max().item()
        free = torch.cuda.mem_get_info()[0]
        size = min(1 << 30, free // 4)
        source = torch.empty(size, dtype=torch.uint8, device="cuda"); target = torch.empty_like(source)
        copied = 2 * size / best(10, lambda: target.copy_(source)) / 1e9
        del source, target
        side = 8192 if free > 2 << 30 else 4096
        x, y = (torch.randn(side, side, dtype=torch.float16, device="cuda") for _ in range(2))
        product = 2 * side**3 / best(10, lambda: x @ y) / 1e12
        del x, y
        torch.cuda.empty_cache()
        told.append({"capability": f"{found.major}.{found.minor}", "bus": found.pci_bus_id, "error": error,
                     "bandwidth_gbs": copied, "matmul_tflops": product})
print(json.dumps(told))
"""

# Every card adds to the sum of all: one process that drives them all through NCCL.
NCCL = """
import json, torch
from torch.cuda import nccl
cards = range(torch.cuda.device_count())
tensors = [torch.full((1 << 20,), float(number + 1), device=number) for number in cards]
nccl.all_reduce(tensors)
for number in cards:
    torch.cuda.synchronize(number)
print(json.dumps([[tensor.min().item(), tensor.max().item()] for tensor in tensors]))
"""

TENSORFLOW_CARDS = """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import json, tensorflow as tf
told = []
for device in tf.config.list_logical_devices("GPU"):
    with tf.device(device.name):
        told.append(tf.reduce_sum(tf.linalg.matmul(tf.ones([64, 64]), tf.ones([64, 64]))).numpy().item())
print(json.dumps(told))
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
# Bytecode is not asked for: some wheels carry it, and it is compiled anew on the host.
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
        if file.hash and path.suffix != ".pyc" and not (path.is_file() and digest(path) == file.hash.value):
            altered.append(str(file))
print(json.dumps(altered))
"""


def environments(plan: HostPlan) -> list[str]:
    return [entry["name"] for entry in plan.settings["python_ml_environments"]]


def home(plan: HostPlan, name: str) -> str:
    return f"{plan.settings['python_ml_root']}/{name}"


def of_framework(plan: HostPlan, framework: str) -> list[str]:
    """The environments whose lock has that framework."""
    return [name for name in environments(plan) if framework in lock(plan, name)]


def backends(plan: HostPlan) -> dict[str, str]:
    return {"torch": plan.frameworks.torch_backend, "tensorflow": plan.frameworks.tensorflow_backend}


def lock(plan: HostPlan, name: str) -> dict[str, str]:
    """Version by distribution name, as locked; a pin under a condition keeps its marker behind the version."""
    wanted = next(entry for entry in plan.settings["python_ml_environments"] if entry["name"] == name)["requirements"]
    file = Path(wanted) if wanted.startswith("/") else LOCKS / f"{wanted}-{backends(plan).get(wanted, 'cpu')}.txt"
    pins = dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,-]*\])?==([^\\\n]+?) *\\?$", file.read_text(), re.MULTILINE))
    # TensorFlow's build without CUDA has a name of its own.
    return {"tensorflow": pins["tensorflow-cpu"], **pins} if "tensorflow-cpu" in pins else pins


def answer(host: Host, plan: HostPlan, name: str, script: str) -> Any:
    """What the environment's Python prints as JSON when the service user runs it; a failure is an assertion."""
    user = shlex.quote(plan.settings["python_ml_user"])
    with host.sudo():
        found = host.run(f"cd / && runuser -u {user} -- {home(plan, name)}/bin/python -c {shlex.quote(script)}")
    assert found.succeeded, f"{name}: {found.stderr.strip()[-600:]}"
    return json.loads(found.stdout)


def test_every_environment_computes_for_the_service_user(host: Host, plan: HostPlan) -> None:
    for framework, script in COMPUTE.items():
        for name in of_framework(plan, framework):
            error = answer(host, plan, name, PLAIN + script)
            assert error < PRECISION[framework], f"{name}: {framework} and plain Python differ by {error}"


def test_builds_are_the_planned_ones_and_have_code_for_every_card(host: Host, plan: HostPlan) -> None:
    for name in of_framework(plan, "torch"):
        found = answer(host, plan, name, BUILD)
        backend = f"cu{found['cuda'].replace('.', '')}" if found["cuda"] else "cpu"
        versions = (found["version"].partition("+")[0], lock(plan, name)["torch"].partition("+")[0])
        assert (versions[0], backend) == (versions[1], plan.frameworks.torch_backend)
    for framework, script in CAPABILITIES.items():
        for name in of_framework(plan, framework) if backends(plan)[framework] != "cpu" else ():
            # sm_86 is machine code for 8.6, compute_90 is PTX of 9.0, sm_100 is 10.0
            built = tuple(f"{word[:-1]}.{word[-1]}" for word in re.findall(r"[0-9]+", answer(host, plan, name, script)))
            without = ", ".join(card.product for card in plan.cards if not runs_on(built, card))
            assert not without, f"{name}: {framework} has code for {', '.join(built)}; {without} cannot run it"


@pytest.mark.gpu
def test_torch_computes_on_every_card(host: Host, plan: HostPlan) -> None:
    """Right, and as fast as a sound card of its kind."""
    products = load_catalog().nvidia.products
    for name in of_framework(plan, "torch"):
        found = answer(host, plan, name, CARDS)
        assert sorted(card["capability"] for card in found) == sorted(card.compute_capability for card in plan.cards)
        wrong = [card for card in found if card["error"] > 1e-9]
        assert not wrong, f"{name}: these cards compute wrongly: {wrong}"
        power = {gpu.address: gpu.power for gpu in parse(host.check_output("nvidia-smi -q -x")).gpus}
        slow = []
        for card in plan.cards:
            measured = next(each for each in found if each["bus"] == int(card.address.split(":")[1], 16))
            cap = power[card.address]
            share = cap.enforced / cap.default if cap.enforced and cap.default else 1.0
            slow += [bandwidth_fault(products[card.pci_id], measured["bandwidth_gbs"])]
            slow += [matmul_fault(products[card.pci_id], measured["matmul_tflops"], share)]
        assert not any(slow), "; ".join(filter(None, slow))


@pytest.mark.gpu
def test_cards_add_up_through_nccl(host: Host, plan: HostPlan) -> None:
    for name in of_framework(plan, "torch"):
        total = sum(range(1, len(plan.cards) + 1))
        assert answer(host, plan, name, NCCL) == [[total, total]] * len(plan.cards)


@pytest.mark.gpu
def test_tensorflow_computes_on_every_card(host: Host, plan: HostPlan) -> None:
    for name in of_framework(plan, "tensorflow"):
        assert answer(host, plan, name, TENSORFLOW_CARDS) == [64.0**3] * len(plan.cards)


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

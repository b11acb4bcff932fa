"""Each declared toolkit is there and held, the first is everybody's, and no driver came with them."""

from __future__ import annotations

import re

import pytest
from testinfra.host import Host

from provision.model import HostPlan

PREFERENCES = "/etc/apt/preferences.d/cuda.pref"
# What brings a driver: the metapackages without and with a version, and what they are made of.
BRINGERS = "cuda cuda-runtime-* cuda-demo-suite-* cuda-[0-9]*-[0-9]*"

# Each card adds two arrays and the host compares: compiler, headers, runtime library and driver in one.
PROGRAM = r"""
#include <cstdio>
__global__ void add(const float *a, const float *b, float *sum, int count) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) sum[i] = a[i] + b[i];
}
int main() {
    const int count = 1 << 16;
    int cards = 0;
    cudaGetDeviceCount(&cards);
    for (int card = 0; card < cards; card++) {
        cudaSetDevice(card);
        float *a, *b, *sum;
        cudaMallocManaged(&a, count * sizeof(float));
        cudaMallocManaged(&b, count * sizeof(float));
        cudaMallocManaged(&sum, count * sizeof(float));
        for (int i = 0; i < count; i++) { a[i] = i; b[i] = 2 * i; }
        add<<<count / 256, 256>>>(a, b, sum, count);
        if (cudaDeviceSynchronize() != cudaSuccess) return 1;
        for (int i = 0; i < count; i++) if (sum[i] != 3 * i) return 2;
        std::printf("card %d adds\n", card);
    }
    return cards == 0;
}
"""


def versions(plan: HostPlan) -> list[str]:
    return list(plan.settings["cuda_versions"])


@pytest.fixture(scope="module")
def held(host: Host) -> dict[str, str]:
    """The held version of each package."""
    file = host.file(PREFERENCES)
    text = file.content_string if file.exists else ""
    records = re.findall(r"^Package: (.*)\nPin: version (.*)\nPin-Priority: 1001$", text, re.MULTILINE)
    return {name: version for names, version in records for name in names.split()}


def test_each_compiler_answers_with_its_version(host: Host, plan: HostPlan) -> None:
    for version in versions(plan):
        answer = host.run(f"/usr/local/cuda-{version}/bin/nvcc --version")
        assert f"release {version}," in answer.stdout, f"nvcc of {version}: {answer}"


def test_the_first_version_is_everybody_s(host: Host, plan: HostPlan) -> None:
    for version in versions(plan)[:1]:
        assert host.check_output("readlink -f /usr/local/cuda") == f"/usr/local/cuda-{version}"
    wanted = "/usr/local/cuda/bin/nvcc" if versions(plan) and plan.settings["cuda_profile"] else ""
    login = host.run("env -i HOME=/ PATH=/usr/bin:/bin sh -lc 'command -v nvcc'").stdout.strip()
    assert login == wanted or (not wanted and not login.startswith("/usr/local/cuda")), f"a login finds {login!r}"


def test_the_linker_finds_the_libraries(host: Host, plan: HostPlan) -> None:
    directories = host.run("/sbin/ldconfig -v -N 2>/dev/null | grep -v '^\t'").stdout
    found = host.check_output("ls /usr/lib/*-linux-gnu")
    wanted = {"libcudnn.so": plan.settings["cuda_cudnn"], "libnccl.so": plan.settings["cuda_nccl"]}
    assert not versions(plan) or "/usr/local/cuda/" in directories, "the linker knows no directory of CUDA's"
    assert [name for name, asked in wanted.items() if asked and versions(plan) and name not in found] == []


def test_upgrades_leave_the_held_versions(host: Host, plan: HostPlan, held: dict[str, str]) -> None:
    tops = [f"cuda-{part}-{version.replace('.', '-')}" for version in versions(plan) for part in ("nvcc", "cudart-dev")]
    assert [name for name in tops if name not in held] == [], f"not held by {PREFERENCES}"
    form = "dpkg-query -W -f '${Package} ${Version}\\n' " + " ".join(held)
    installed = dict(line.split(" ") for line in host.run(form).stdout.splitlines()) if held else {}
    assert installed == held
    with host.sudo():
        upgrade = host.run("apt-get --simulate dist-upgrade")
    assert upgrade.rc == 0, upgrade
    moved = set(re.findall(r"^(?:Inst|Remv) (\S+)", upgrade.stdout, re.MULTILINE))
    assert moved & set(held) == set()


def test_no_driver_came_with_them(host: Host) -> None:
    names = " ".join(f"'{name}'" for name in BRINGERS.split())
    told = host.run(f"dpkg-query -W -f '${{db:Status-Status}} ${{Package}}\\n' {names}").stdout.splitlines()
    # The name with a version is also that of the parts: cuda-nvcc-13-0 is none, cuda-13-0 is one.
    bringer = re.compile(r"installed (cuda|cuda-(runtime|demo-suite)-.*|cuda-\d+-\d+)$")
    assert [line for line in told if bringer.match(line)] == []


@pytest.mark.gpu
def test_a_program_is_compiled_and_every_card_runs_it(host: Host, plan: HostPlan) -> None:
    for version in versions(plan):
        nvcc = f"/usr/local/cuda-{version}/bin/nvcc"
        answer = host.run(
            'cd "$(mktemp -d)" && printf %%s %s > add.cu && %s -arch=native -o add add.cu && ./add; '
            'code=$?; rm -r "$PWD"; exit $code',
            PROGRAM,
            nvcc,
        )
        assert answer.rc == 0, f"CUDA {version}: {answer}"
        assert answer.stdout.splitlines() == [f"card {number} adds" for number in range(len(plan.cards))]

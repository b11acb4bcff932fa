"""Which tests go together, in which order, and what is said of their time: on a small suite, with xdist and without."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import groups
from tests.surroundings import BIN

ROOT = Path(__file__).parents[2]
CONFTEST = """\
import os
from pathlib import Path
import pytest
from tests.groups import Groups

def pytest_configure(config):
    config.pluginmanager.register(Groups(config, Path(__file__).with_name("durations.json")))

@pytest.fixture(autouse=True)
def told(request):
    worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    with Path(__file__).with_name("order").open("a") as stream:
        print(worker, request.node.name, file=stream)
"""
FILES = {
    "test_a.py": "def test_a1(): pass\ndef test_a2(): pass\ndef test_a3(): pass\n",
    "test_b.py": """\
import pytest, time
pytestmark = pytest.mark.xdist_group("shared")

@pytest.fixture(scope="module")
def slow():
    time.sleep(1.1)
    yield
    time.sleep(0.4)

def test_b1(slow): pass
def test_b2(): pass
""",
    "test_c.py": "def test_c1(): pass\n",
    "test_d.py": """\
import pytest
pytestmark = [pytest.mark.xdist_group("shared")]

def test_d2(): pass
def test_d1(): pass
""",
}
KEPT = {"shared": 7, "test_a.py": 2, "test_c.py": 9, "gone": 30}
TOGETHER = ("-n", "2", "--dist", "loadgroup", "--no-loadscope-reorder")


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    for name, text in {**FILES, "conftest.py": CONFTEST, "pytest.ini": "[pytest]\ntestpaths = .\n"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "durations.json").write_text(json.dumps(KEPT), encoding="utf-8")
    return tmp_path


def run(suite: Path, *options: str, update: bool = False) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **({groups.UPDATE: "1"} if update else {})}
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [BIN / "python", "-m", "pytest", "-W", "ignore", *options],
        cwd=suite, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def order(suite: Path) -> list[tuple[str, ...]]:
    return [tuple(line.split()) for line in (suite / "order").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("options", [("-p", "no:xdist"), TOGETHER], ids=["alone", "xdist"])
def test_a_group_stays_together_in_its_order_and_its_time_is_told_and_kept(suite: Path, options: list[str]) -> None:
    said = run(suite, *options, update=True)
    ran = order(suite)
    assert len(ran) == 8
    for group in (("test_b1", "test_b2", "test_d2", "test_d1"), ("test_a1", "test_a2", "test_a3")):
        seen = [(worker, name) for worker, name in ran if name in group]
        assert tuple(name for _, name in seen) == group
        assert len({worker for worker, _ in seen}) == 1
    if options is not TOGETHER:
        assert [name for _, name in ran][:2] == ["test_c1", "test_b1"], "the longest group comes first"
    (seconds,) = re.findall(r"\n +(\d+\.\d) s  shared\n", said)
    assert float(seconds) >= 1.5, "set-up and tear-down count for their group"
    ((set_up, call),) = re.findall(r"\n +(\d+\.\d) s set-up +(\d+\.\d) s call  test_b.py::test_b1", said)
    assert float(set_up) >= 1.1 > float(call)
    kept = json.loads((suite / "durations.json").read_text(encoding="utf-8"))
    assert set(kept) == {"shared", "test_a.py", "test_c.py"}
    assert kept["shared"] >= 1


def test_what_ran_in_part_or_did_not_pass_keeps_its_former_seconds(suite: Path) -> None:
    (suite / "test_c.py").write_text("import pytest\ndef test_c1(): pytest.skip('no target')\n", encoding="utf-8")
    run(suite, "-p", "no:xdist", "test_c.py", update=True)
    run(suite, "-p", "no:xdist", "-k", "test_a1", update=True)
    assert json.loads((suite / "durations.json").read_text(encoding="utf-8")) == KEPT


class Item:
    """As much of a test as the order looks at."""

    def __init__(self, nodeid: str, *marks: pytest.Mark) -> None:
        self.nodeid = nodeid
        self._marks = marks

    def iter_markers(self, _name: str) -> tuple[pytest.Mark, ...]:
        return self._marks


def test_a_group_that_no_kept_run_has_seen_is_placed_in_the_middle() -> None:
    shared = pytest.mark.xdist_group("shared").mark
    items = [Item("new.py::z"), Item("short.py::y"), Item("c.py::x", shared), Item("b.py::w", shared)]
    groups.longest_first(items, {"shared": 7, "short.py": 1})  # type: ignore[arg-type]
    assert [item.nodeid for item in items] == ["b.py::w", "c.py::x", "new.py::z", "short.py::y"]

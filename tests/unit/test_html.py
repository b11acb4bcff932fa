"""The report as a page: whole, escaped, without secrets, and drawn from data alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_cases import CASES, events_of, report_of

from provision import codec
from provision.cli import html as html_module
from provision.cli import htmlcooling, htmldisks, htmltimeline
from provision.cli.html import html
from provision.cli.present import leave, no_page
from provision.fold import fold
from provision.ledger import Ledger
from provision.report import Report

PROVISION = Path(sys.executable).parent / "provision"
CASE = {case.name: case for case in CASES}
VOID = {"meta", "br", "wbr"}
EVIL = "</pre></title></style><script>alert(1)</script><img src=//evil.example onerror=alert(2)>\"'`{{7*7}}\x1b[2J\x00"


class Reader(HTMLParser):
    """What a browser would make of a page: its tags in order, their attributes, its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [value for _, key, value in self.attributes if key == name]


def machine() -> Report:
    return report_of(CASE["machine"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_report_is_a_whole_page_that_loads_and_runs_nothing(case: Path) -> None:
    page = html(report_of(case))
    seen = Reader(page)
    assert not seen.open
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "base", "use", "image"} & set(seen.tags)
    assert not {"src", "srcset", "style", "action", "xlink:href"} & {name for _, name, _ in seen.attributes}
    assert not [name for _, name, _ in seen.attributes if name.startswith("on")]
    assert all(target.startswith("#") for target in seen.values("href"))
    assert not any(word in page for word in ("url(", "@import", "@font-face"))
    ids = seen.values("id")
    assert len(ids) == len(set(ids))
    assert {part for value in seen.values("aria-labelledby") for part in value.split()} <= set(ids)


def words(data: Any) -> set[str]:
    if isinstance(data, dict):
        return {word for value in data.values() for word in words(value)}
    if isinstance(data, list):
        return {word for value in data for word in words(value)}
    return {data} if isinstance(data, str) else set()


@pytest.mark.parametrize("name", ["machine", "failed_and_unreachable", "refused_input", "plan_gpus"])
def test_nothing_that_matters_is_missing(name: str) -> None:
    report = report_of(CASE[name])
    text = Reader(html(report)).text
    for outcome in report.hosts:
        told: list[str] = [outcome.host, outcome.state]
        told += [check.check for check in outcome.checks] + [check.message for check in outcome.checks]
        told += [task.task for task in outcome.tasks] + [task.diff for task in outcome.tasks]
        told += [refusal.hint for refusal in outcome.refusals]
        told += [reason.because for reason in outcome.plan.reasons] if outcome.plan else []
        told += [other for reason in outcome.plan.reasons for other in reason.rejected] if outcome.plan else []
        told += [disk.by_id[0] for disk in outcome.hardware.disks] if outcome.hardware else []
        told += [gpu.name for gpu in outcome.hardware.gpus] if outcome.hardware else []
        assert [words for words in told if words not in text] == []
    for step in report.next_steps:
        assert step.partition(": provision ")[2] in text


def spoilt(data: Any, key: str = "") -> Any:
    """Every word that a host or an operator could choose, made hostile."""
    if isinstance(data, dict):
        return {name: spoilt(value, name) for name, value in data.items()}
    if isinstance(data, list):
        return [spoilt(item, key) for item in data]
    kept = (
        "type",
        "run",
        "state",
        "verb",
        "hosts",
        "host",
        "pci_id",
        "virtualization",
        "unknown",
        "tier",
        "argv",
        "source",
    )
    return f"{data}{EVIL}" if isinstance(data, str) and key not in kept else data


def test_what_hosts_say_stays_text() -> None:
    tame = [codec.encode_event(event) for event in events_of(CASE["machine"])]
    report = fold(codec.decode_event(spoilt(data), "spoilt") for data in tame)
    page = html(report)
    seen, meant = Reader(page), Reader(html(machine()))
    assert sum(EVIL[:40] in task.task for outcome in report.hosts for task in outcome.tasks) > 10
    assert "<script>alert(1)</script>" in seen.text
    assert not seen.open
    assert set(seen.tags) == set(meant.tags)
    assert {(tag, name) for tag, name, _ in seen.attributes} == {(tag, name) for tag, name, _ in meant.attributes}
    assert "{{7*7}}" in seen.text
    assert not {"\x00", "\x1b"} & set(page)


def test_secrets_are_hidden_as_in_json() -> None:
    assert "hunter2-in-the-clear" in (CASE["machine"] / "events.jsonl").read_text(encoding="utf-8")
    page = html(machine())
    assert "hunter2" not in page
    assert page.count("[redacted]") == 2 * 2  # a reason and a setting of two hosts


def test_a_kept_run_has_the_same_page(tmp_path: Path) -> None:
    events = events_of(CASE["machine"])
    ledger = Ledger.open(tmp_path)
    run = ledger.begin("apply", ["atlas.example", "boreas.example"], "workstation")
    told = [replace(event, run=run) for event in events]
    for event in told:
        ledger.append(event)
    page = html(fold(told))
    assert "<svg" in page
    assert html(ledger.show(run)).replace("still running", "the proof disagrees") != page  # it was not finished
    ledger.finish(fold(told))
    assert html(Ledger.open(tmp_path).show(run)) == page


CURVE = {
    "name": "chassis", "sources": ["CPU", "GPU"], "outputs": ["pwm1"], "points": [[40, 30], [70, 60], [80, 100]],
    "hysteresis_c": 4, "floor_percent": 25, "failsafe_percent": 100,
}  # fmt: skip


def test_a_curve_is_drawn_where_its_points_are_and_told() -> None:
    seen = Reader(htmlcooling.svg("c", CURVE))
    line = next(value for tag, name, value in seen.attributes if (tag, name) == ("polyline", "points"))
    places = [tuple(map(float, pair.split(","))) for pair in line.split()]
    share = [((x - 44) / 296 * 80 + 20, (192 - y) / 172 * 100) for x, y in places]
    expected = [(20, 30), (40, 30), (70, 60), (80, 100), (100, 100)]
    assert [pytest.approx(point, abs=0.1) for point in expected] == share
    assert htmlcooling.told(CURVE).replace("\N{NO-BREAK SPACE}", " ") == (
        "pwm1 by the hottest of CPU and GPU: 30 % at 40 °C, 60 % at 70 °C, 100 % at 80 °C; slower again only 4 °C "
        "below; never under 25 %; 100 % when the sensor or the controller is lost"
    )
    assert htmlcooling.told(CURVE) in seen.text
    assert "Fan curve chassis" in seen.text


def test_a_layout_says_what_each_disk_becomes_and_which_are_left_alone() -> None:
    (outcome, _) = machine().hosts
    assert outcome.plan
    assert outcome.hardware
    disks = codec.to_data(outcome.hardware)["disks"]
    layout = outcome.plan.settings["storage_layout"]
    seen = Reader(htmldisks.svg("d", layout, disks))
    assert [disk["name"] for disk in htmldisks.left_alone(layout, disks)] == ["sda"]
    for words in ("fast", "2 TB", "xfs on mirror at /srv/fast (noatime)", "archive", "16 TB", "left alone"):
        assert words in seen.text
    assert htmldisks.told(layout, disks) in seen.text
    assert "not seen on this box" in Reader(htmldisks.svg("d", [{**layout[0], "disks": ["nvme-gone"]}], disks)).text


def test_a_next_step_is_words_and_a_command_that_can_be_copied() -> None:
    commands = {
        command: words for case in CASES for words, command in map(html_module._step, report_of(case).next_steps)
    }
    assert {command.split()[0] for command in commands} == {"provision", "ssh"}
    assert commands["ssh a.example sudo reboot"] == "reboot it when it suits you"


def test_a_skipped_check_is_neither_a_failure_nor_a_pass() -> None:
    (outcome,) = report_of(CASE["skipped_check"]).hosts
    lone = replace(outcome, checks=tuple(replace(check, started=1.0) for check in outcome.checks), tasks=())
    text = Reader(htmltimeline.svg("t", lone, (1.0, 9.0))).text
    assert ("unproved" in text, "failed" in text) == (True, False)
    page = html(report_of(CASE["skipped_check"]))
    assert '<span class="pill bad">' not in page


def test_a_timeline_places_each_step_by_its_time() -> None:
    report = machine()
    over = htmltimeline.span(report.hosts)
    assert over
    for outcome in report.hosts:
        seen = Reader(htmltimeline.svg("t", outcome, over))
        steps = [*outcome.tasks, *outcome.checks]
        bars = seen.tags.count("rect") - len({step.role for step in steps})
        assert bars == len(steps)
        places = [float(x[:-1]) for tag, name, x in seen.attributes if (tag, name) == ("rect", "x") and x.endswith("%")]
        expected = [(step.started - over[0]) / (over[1] - over[0]) * 100 for step in steps]
        assert sorted(places) == pytest.approx(sorted(expected), abs=0.4)
        assert htmltimeline.told(outcome) in seen.text
    assert htmltimeline.span(report_of(CASE["all_ok"]).hosts) is None  # a stream that tells no times


@pytest.mark.parametrize(
    "wrong", [None, "", "x", 7, {}, [], [7], [{}], [{"points": [[1], 2, ["a", "b"]], "disks": None}]]
)
def test_a_setting_of_another_shape_costs_no_page(wrong: Any) -> None:
    (outcome, *_) = machine().hosts
    assert outcome.plan
    plan = replace(outcome.plan, settings={"storage_layout": wrong, "cooling_curves": wrong})
    seen = Reader(html(Report("plan", hosts=(replace(outcome, plan=plan),))))
    assert not seen.open
    assert "storage_layout" in seen.text


def test_the_page_is_whole_or_not_there_and_its_owner_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("before", encoding="utf-8")
    path.chmod(0o644)
    before = path.stat().st_ino

    def full(_report: Report) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("provision.cli.html.html", full)
        with pytest.raises(SystemExit) as left:
            leave(machine(), "text", page=path)
    assert (left.value.code, path.read_text(), [*tmp_path.iterdir()]) == (4, "before", [path])
    with pytest.raises(SystemExit) as left:
        leave(machine(), "text", page=path)
    assert (left.value.code, [*tmp_path.iterdir()]) == (4, [path])
    assert path.read_text(encoding="utf-8") == html(machine())
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_ino != before


def test_a_page_that_cannot_be_written_costs_neither_report_nor_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        leave(machine(), "text", page=tmp_path / "nowhere" / "x.html")
    shown = capsys.readouterr()
    assert left.value.code == 4
    assert shown.out.endswith("exit 4: the proof disagrees\n")
    assert (
        shown.err == f"provision: the page {tmp_path}/nowhere/x.html could not be written: No such file or directory\n"
    )


def test_words_that_utf_8_cannot_hold_cost_no_page(tmp_path: Path) -> None:
    (outcome, *_) = machine().hosts
    with pytest.raises(SystemExit):
        leave(Report("verify", hosts=(replace(outcome, host="a\ud800b"),)), "json", page=tmp_path / "x.html")
    assert "a?b" in (tmp_path / "x.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "fit"), [("x.html", True), ("X.HTML", True), ("x.htm", False), ("x", False), (".html", False)]
)
def test_a_page_is_named_as_one(name: str, fit: bool, tmp_path: Path) -> None:
    assert (no_page(tmp_path / name) == ()) is fit


def show(*argv: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROVISION), "show", *argv], cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        env={**os.environ, "XDG_STATE_HOME": str(home)}, timeout=60, check=False,
    )  # fmt: skip


def test_show_writes_the_page_by_the_run_s_id_or_by_its_name(tmp_path: Path) -> None:
    events = events_of(CASE["machine"])
    ledger = Ledger.open(tmp_path / "provision")
    run = ledger.begin("apply", ["atlas.example"], "workstation")
    for event in events:
        ledger.append(replace(event, run=run))
    ledger.finish(fold([replace(event, run=run) for event in events]))
    done = show("--html", "--output", "json", home=tmp_path)
    assert (done.returncode, done.stderr) == (4, f"provision: its page is {run}.html\n")
    assert json.loads(done.stdout)["run"] == run
    named = show(run, "--html", "named.html", home=tmp_path)
    assert (named.returncode, named.stderr) == (4, "")
    assert (tmp_path / f"{run}.html").read_bytes() == (tmp_path / "named.html").read_bytes()
    nothing = show("nothing", "--html", home=tmp_path)
    assert (nothing.returncode, nothing.stderr) == (2, "")

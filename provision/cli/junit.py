"""A report as JUnit XML: a suite per host, a test case per check and per thing that went wrong."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from provision.redact import redact
from provision.report import HostOutcome, Report

# What XML 1.0 cannot hold, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_ELEMENTS = {"failed": "failure", "error": "error", "skipped": "skipped"}


def junit(report: Report) -> str:
    """The document as text, with its XML declaration."""
    root = ET.Element("testsuites", name=f"provision {report.verb}")
    for outcome in report.hosts:
        suite = _suite(root, outcome.host, report)
        _host_cases(suite, outcome)
    if report.refusals:
        suite = _suite(root, "provision", report)
        for refusal in report.refusals:
            _case(suite, "provision", refusal.subject, "error", f"{refusal}\n{refusal.hint}")
    for suite in root:
        _count(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, name: str, report: Report) -> ET.Element:
    suite = ET.SubElement(root, "testsuite", name=_clean(name), hostname=_clean(name))
    if report.started:
        suite.set("timestamp", datetime.fromtimestamp(report.started, UTC).isoformat(timespec="seconds"))
    return suite


def _host_cases(suite: ET.Element, outcome: HostOutcome) -> None:
    for check in outcome.checks:
        _case(suite, check.role, check.check, check.state, check.message, check.seconds)
    failed = [task for task in outcome.tasks if task.state == "failed"]
    for task in failed:
        _case(suite, task.role, f"task: {task.task}", "failed", task.message, task.seconds)
    told = failed or any(check.state != "passed" for check in outcome.checks)
    if outcome.state in ("failed", "unproved") and told:
        return
    for refusal in outcome.refusals or ((outcome.failure,) if outcome.failure else ()):
        _case(suite, "provision", outcome.state, "error", f"{refusal}\n{refusal.hint}")


def _case(suite: ET.Element, classname: str, name: str, state: str, message: str, seconds: float = 0.0) -> None:
    case = ET.SubElement(suite, "testcase", classname=_clean(classname), name=_clean(name), time=f"{seconds:.3f}")
    if state in _ELEMENTS:
        told = _clean(redact(message)) or "no message"
        ET.SubElement(case, _ELEMENTS[state], message=told.splitlines()[0]).text = told


def _count(suite: ET.Element) -> None:
    suite.set("tests", str(len(suite)))
    for element, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(attribute, str(len(suite.findall(f"testcase/{element}"))))
    suite.set("time", f"{sum(float(case.get('time', '0')) for case in suite):.3f}")


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("", text)

"""The report's page, opened in a real browser: on a phone and on a wide screen, by day, by night and on paper.

Where the test fails, the pictures of the pages lie in pytest's temporary folder, beside the pages themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from report_cases import CASES, report_of

from provision.cli.html import html
from provision.report import Report
from tests import headless

pytestmark = pytest.mark.browser

CASE = {case.name: case for case in CASES}
PAGES = ["machine", "failed_and_unreachable", "plan_gpus", "refused_run", "check_mode", "long_words"]
PHONE, NARROW, WIDE = 390, 320, 1280

UNFOLD = "document.querySelectorAll('details').forEach(each => each.open = true)"
WIDER = """[...document.body.querySelectorAll('*')]
    .filter(each => !each.closest('thead') && each.getBoundingClientRect().right > innerWidth + 0.5)
    .map(each => each.outerHTML.slice(0, 200))"""
# Words of a drawing that are cut off by its edge, or that lie on other words of it.
CLASHES = """[...document.querySelectorAll('svg')].flatMap(svg => {
    const edge = svg.getBoundingClientRect();
    const words = [...svg.querySelectorAll('text')].map(each => [each.textContent, each.getBoundingClientRect()]);
    const out = ([, at]) => at.left < edge.left - 1 || at.right > edge.right + 1 || at.bottom > edge.bottom + 3;
    const over = ([, a], [, b]) =>
        a.left < b.right - 1 && b.left < a.right - 1 && a.top + 3 < b.bottom && b.top + 3 < a.bottom;
    return [...words.filter(out).map(([text]) => text),
            ...words.flatMap((one, n) => words.slice(n + 1).filter(two => over(one, two)).map(two => one[0] + two[0]))];
})"""
SIZES = """[...document.querySelectorAll('svg')].map(each => {
    const at = each.getBoundingClientRect(); return [at.width, at.height, each.querySelectorAll('*').length];
})"""
# The contrast of every piece of text with what is painted behind it (WCAG 2.2, 1.4.3).
FAINT = """(() => {
    const light = colour => { const [r, g, b] = colour.match(/[0-9.]+/g).map(Number).map(x => x / 255)
        .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const behind = each => { for (; each; each = each.parentElement) {
        const colour = getComputedStyle(each).backgroundColor; if (colour != 'rgba(0, 0, 0, 0)') return colour; } };
    return [...document.body.querySelectorAll('*')]
        .filter(each => !each.closest('svg') && [...each.childNodes].some(n => n.nodeType == 3 && n.data.trim()))
        .map(each => { const pair = [light(getComputedStyle(each).color), light(behind(each))].sort((a, b) => a - b);
            return [(pair[1] + 0.05) / (pair[0] + 0.05), each.outerHTML.slice(0, 120)]; })
        .filter(([ratio]) => ratio < 4.5);
})()"""


def long_words() -> Report:
    """What hosts may say at length: nothing in it has a place to break."""
    report = report_of(CASE["machine"])
    long = "x" * 300
    hosts = []
    for outcome in report.hosts:
        tasks = tuple(
            replace(task, role=task.role and "nvidia_container_toolkit", message=long) for task in outcome.tasks
        )
        checks = tuple(replace(check, check=f"test_{long}", message=long) for check in outcome.checks)
        assert outcome.plan
        reasons = tuple(replace(each, subject=long, choice=long, rejected=(long,)) for each in outcome.plan.reasons)
        plan = replace(outcome.plan, reasons=reasons, warnings=(long,), settings={**outcome.plan.settings, "x": long})
        hosts.append(replace(outcome, host=f"{long}.example", tasks=tasks, checks=checks, plan=plan))
    return replace(report, hosts=tuple(hosts), next_steps=(f"do: provision apply {long}",))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every page."""
    folder = tmp_path_factory.mktemp("pages")
    for name in PAGES:
        report = long_words() if name == "long_words" else report_of(CASE[name])
        (folder / f"{name}.html").write_text(html(report), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[headless.Page]:
    program = headless.browser()
    assert program
    with headless.page(program, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, PHONE, WIDE])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_screen_and_is_quiet(
    name: str, width: int, scheme: str, page: headless.Page, home: Path
) -> None:
    path = home / f"{name}.html"
    page.open(path, width=width, scheme=scheme)
    (home / f"{name}-{width}-{scheme}.png").write_bytes(page.screenshot())
    page.value(UNFOLD)
    assert page.value("[document.documentElement.scrollWidth, innerWidth]") == [width, width]
    assert page.value(WIDER) == []
    assert page.value(CLASHES) == []
    assert page.value(FAINT) == []
    assert page.value("document.scripts.length") == 0
    assert (page.requests, page.complaints) == ([path.as_uri()], [])


@pytest.mark.parametrize("width", [PHONE, WIDE])
def test_the_drawings_are_there_and_have_a_size(width: int, page: headless.Page, home: Path) -> None:
    page.open(home / "machine.html", width=width)
    sizes = page.value(SIZES)
    assert len(sizes) == 2 * (1 + 2 + 1)  # for each of two hosts its disks, two curves and the timeline
    for across, down, parts in sizes:
        assert across > 300
        assert down > 100
        assert parts > 10


def test_day_and_night_differ_and_paper_is_white(page: headless.Page, home: Path) -> None:
    def ground() -> str:
        return str(page.value("getComputedStyle(document.body).backgroundColor"))

    page.open(home / "machine.html", width=WIDE, scheme="light")
    day, seen_by_day = ground(), page.screenshot()
    page.medium("screen", "dark")
    night, seen_by_night = ground(), page.screenshot()
    assert (day, night) == ("rgb(246, 246, 244)", "rgb(19, 22, 25)")
    assert seen_by_day != seen_by_night
    page.medium("print", "dark")
    assert ground() == "rgb(255, 255, 255)"
    page.medium("print", "light")
    assert page.value(FAINT) == []


def test_what_is_folded_is_printed(page: headless.Page, home: Path) -> None:
    shown = "document.querySelector('details:not([open]) pre, details:not([open]) dd').checkVisibility()"
    page.open(home / "machine.html", width=WIDE)
    assert page.value(shown) is False
    page.medium("print")
    assert page.value(shown) is True


def test_a_screen_reader_hears_what_is_drawn(page: headless.Page, home: Path) -> None:
    page.open(home / "machine.html", width=PHONE)
    heard = [node for node in page.ask("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]
    drawn = [node["name"]["value"] for node in heard if node.get("role", {}).get("value") in ("image", "img")]
    assert len(drawn) == 8
    for words in ("mirror", "35\N{NO-BREAK SPACE}% at 55\N{NO-BREAK SPACE}°C", "cooling: 9.7 s, 2 changed, 2 checks"):
        assert any(words in name for name in drawn)
    headings = [node["name"]["value"] for node in heard if node.get("role", {}).get("value") == "heading"]
    assert headings[0] == "The proof disagrees"


def test_the_policy_stops_what_the_page_should_not_hold(page: headless.Page, home: Path) -> None:
    """And so these tests can fail: a fault put into a page is seen."""
    whole = (home / "machine.html").read_text(encoding="utf-8")
    path = home / "spoilt.html"
    for wrong in ("<script>document.title = 'ran'</script>", "<img src='http://127.0.0.1:9/x.png' onerror='throw 1'>"):
        path.write_text(whole.replace("<main>", f"<main>{wrong}"), encoding="utf-8")
        page.open(path, width=PHONE)
        assert any("Content Security Policy" in complaint for complaint in page.complaints)
        assert page.value("document.title") != "ran"
    open_to_all = whole.replace("default-src 'none'", "default-src *").replace("<main>", f"<main>{wrong}")
    path.write_text(open_to_all, encoding="utf-8")
    page.open(path, width=PHONE)
    assert page.requests[1:] == ["http://127.0.0.1:9/x.png"]
    faults = "<p style='color: #999; width: 2000px'>wide and faint</p><svg width='9'><text>cut off</text></svg>"
    path.write_text(whole.replace("<main>", f"<main>{faults}"), encoding="utf-8")
    page.open(path, width=PHONE)
    assert page.value("document.documentElement.scrollWidth") > PHONE
    assert len(page.value(WIDER)) == 1
    assert page.value(CLASHES) == ["cut off"]
    assert "wide and faint" in page.value(FAINT)[0][1]

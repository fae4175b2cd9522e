"""The report in a real browser: desk, phone, dark and print."""

from pathlib import Path
from typing import Any

import pytest
from browsing import ARTIFACTS, CONTRAST, DESK, OVERFLOW, PHONE, UNNAMED, watch
from sample_run import Sample, leave, made, make_run
from test_report_html import ATTACKS

from tapir.report import write_report

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

SECTIONS = (
    "answer", "flow", "difficulty", "judge", "tasks", "curriculum", "training", "examples", "contamination", "costs",
    "settings",
)  # fmt: skip


@pytest.fixture(scope="module")
def address(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(sample, tmp_path_factory.mktemp("page") / "report.html").as_uri()


@pytest.mark.parametrize(
    ("name", "size", "scheme"), [("desk", DESK, "light"), ("dark", DESK, "dark"), ("phone", PHONE, "light")]
)
def test_every_section_renders_and_nothing_is_asked_for(
    browser: Any, address: str, name: str, size: dict[str, int], scheme: str
) -> None:
    with watch(browser, size, color_scheme=scheme) as seen:
        seen.page.goto(address)
        for section in SECTIONS:
            box = seen.page.locator(f"section#{section}").bounding_box()
            assert box is not None and box["height"] > 60, section
        for figure in seen.page.locator("figure").all():
            shown = [one for one in figure.locator(".drawing").all() if one.is_visible()]
            assert len(shown) == 1
            assert shown[0].locator("svg.chart").bounding_box()["height"] > 40
        assert not seen.page.evaluate(OVERFLOW)
        assert seen.page.evaluate(CONTRAST) == []
        assert seen.page.evaluate(UNNAMED) == []
        seen.picture(f"report-{name}")
        assert seen.complaints == []
        assert seen.asked == [address]


def test_the_numbers_open_by_keyboard_alone(browser: Any, address: str) -> None:
    with watch(browser) as seen:
        page = seen.page
        page.goto(address)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
        page.keyboard.press("Enter")
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.tagName") == "SUMMARY":
                break
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.parentElement.open")
        assert page.locator("#students table").is_visible()


def test_the_print_shows_the_numbers_and_has_pages(browser: Any, address: str) -> None:
    with watch(browser) as seen:
        seen.page.goto(address)
        seen.page.emulate_media(media="print")
        assert not seen.page.locator("nav.contents").is_visible()
        assert seen.page.locator("#students table").is_visible()
        seen.picture("report-print")
        ARTIFACTS.mkdir(exist_ok=True)
        pdf = seen.page.pdf(
            path=ARTIFACTS / "report.pdf",
            format="A4",
            margin=dict.fromkeys(("top", "bottom", "left", "right"), "15mm"),
        )
        assert pdf.startswith(b"%PDF")
        assert pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") + pdf.count(b"/Type /Page/") >= 5


def test_hostile_instructions_do_nothing(browser: Any, tmp_path: Path) -> None:
    sample = Sample(rows=120, rounds=1, done=1, new=40, arms=(), per_cell=1, planted=ATTACKS)
    run = made(make_run(tmp_path, sample))
    leave(run)
    address = write_report(run).as_uri()
    with watch(browser) as seen:
        seen.page.goto(address)
        seen.page.wait_for_timeout(200)
        assert seen.page.title() == "sample: TAPIR report"
        assert seen.page.locator("h1").count() == 1
        assert seen.page.locator("main").is_visible()
        assert seen.complaints == []
        assert seen.asked == [address]


def test_the_first_page_of_a_run_that_has_just_started_looks_whole(browser: Any, tmp_path: Path) -> None:
    run = made(make_run(tmp_path, Sample(rows=60, rounds=2, done=0, arms=(), is_evaluated=False)))
    leave(run)
    with watch(browser) as seen:
        seen.page.goto(write_report(run).as_uri())
        assert seen.page.evaluate(CONTRAST) == []
        seen.picture("report-early")
        assert seen.complaints == []

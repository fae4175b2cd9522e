"""The live pages in a real browser: sliders, search, lineage, live updates, keyboard, phone."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml
from browsing import CONTRAST, DESK, OVERFLOW, PHONE, UNNAMED, watch
from sample_run import Quiet
from serve_support import ATTACKS

from tapir.balance import task_quotas
from tapir.config import parse_config
from tapir.report.difficulty import read_judgements
from tapir.report.progress import ProgressFile
from tapir.report.reading import RunFiles
from tapir.serve import guarded, settings
from tapir.serve.library import Library
from tapir.tasks import Task

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

TOKEN = "test-token"
BASE = {
    "name": "copied",
    "corpus": {"path": "world"},
    "student": {"model": "world"},
    "teacher": {"kind": "world"},
    "judge": {"kind": "world"},
}


class Server:
    """A real server in a thread."""

    def __init__(self, runs: Path) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        port = self._socket.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self._server = uvicorn.Server(settings(guarded(Library(runs), "127.0.0.1", port, TOKEN)))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


@pytest.fixture(scope="module")
def served(runs: Path) -> Iterator[str]:
    server = Server(runs)
    yield server.address
    server.close()


def number(text: str) -> float:
    return float(re.sub(r"[^\d.\-]", "", text))


def slide(page: Any, selector: str, value: float) -> None:
    """Move a slider as a hand would, by its events."""
    page.eval_on_selector(
        selector,
        "(one, value) => { one.value = value; one.dispatchEvent(new Event('input', { bubbles: true })); }",
        value,
    )


@pytest.mark.parametrize(("name", "size"), [("desk", DESK), ("phone", PHONE)])
@pytest.mark.parametrize(
    ("view", "place"),
    [
        ("overview", "/run/one/"),
        ("rows", "/run/one/rows"),
        ("refused", "/run/one/rows?rows=00-corpus:refused"),
        ("row", "/run/one/row/planted00000000000000000"),
        ("threshold", "/run/one/threshold"),
        ("compare", "/compare"),
        ("home", "/"),
    ],
)
def test_every_view_is_whole_quiet_and_fits(
    browser: Any, served: str, name: str, size: dict[str, int], view: str, place: str
) -> None:
    for scheme in ("light", "dark"):
        with watch(browser, size, color_scheme=scheme) as seen:
            seen.page.goto(served + place, wait_until="networkidle")
            assert not seen.page.evaluate(OVERFLOW)
            assert seen.page.evaluate(CONTRAST) == []
            assert seen.page.evaluate(UNNAMED) == []
            seen.picture(f"serve-{view}-{name}" + ("-dark" if scheme == "dark" else ""))
            assert seen.complaints == []
            assert all(asked.startswith((served, "data:")) for asked in seen.asked)


def test_the_slider_changes_the_counts_as_the_algorithm_would(browser: Any, served: str, runs: Path) -> None:
    run = RunFiles(runs / "one")
    rows = read_judgements(run)
    assert rows is not None
    with watch(browser) as seen:
        page = seen.page
        page.goto(f"{served}/run/one/threshold", wait_until="networkidle")
        for delta in (2, 5.5, 0.9, 8.8, -1):
            slide(page, "#delta", delta)
            seeds = int((rows.mfd > delta).sum())
            assert number(page.locator("#sums dd.value").first.text_content()) == seeds
            shown = {
                cells[0].text_content(): (number(cells[2].text_content()), number(cells[6].text_content()))
                for row in page.locator("#bench-tasks tbody tr").all()
                if (cells := row.locator("th, td").all())
            }
            left = {task: int((rows.of_task(task) > delta).sum()) for task in rows.tasks}
            assert {task: count for task, (count, _) in shown.items()} == left
            target = {task: share for task, share in run.config.tasks.target.items() if left.get(task.value)}
            quotas = task_quotas(target, run.config.expand.new_per_round) if target else {}
            assert {Task(task): new for task, (_, new) in shown.items() if new} == {
                task: quota * run.config.curriculum.rounds for task, quota in quotas.items() if quota
            }
        assert seen.complaints == []


def test_the_quantile_and_the_target_become_settings(browser: Any, served: str, runs: Path) -> None:
    with watch(browser) as seen:
        page = seen.page
        page.goto(f"{served}/run/one/threshold", wait_until="networkidle")
        slide(page, "#quantile", 10)
        hardest = number(page.locator("#sums dd.value").first.text_content())
        rows = read_judgements(RunFiles(runs / "one"))
        assert rows is not None
        assert 0 < hardest <= 0.1 * len(rows.ids)
        page.check("#as-quantile")
        slide(page, 'input[aria-label="weight of Math"]', 0.4)
        text = page.input_value("#yaml")
        assert "quantile: 0.1\n" in text
        assert "    Math: 0.4\n" in text
        changed = parse_config({**BASE, **yaml.safe_load(text)}, "the page")
        assert (changed.difficulty.quantile, changed.tasks.target[Task.MATH]) == (0.1, 0.4)
        page.click("#as-configured")
        assert "    Math: 0.3\n" in page.input_value("#yaml")


def test_examples_follow_the_line_and_the_task(browser: Any, served: str) -> None:
    with watch(browser) as seen:
        page = seen.page
        page.goto(f"{served}/run/one/threshold", wait_until="networkidle")
        page.select_option("#example-task", "Math")
        seen.until("document.querySelector('#examples .near-head')?.textContent.includes('Math')")
        slide(page, "#delta", 9)
        seen.until("document.querySelector('#examples').textContent.includes('No row is above this line')")


def test_search_finds_a_planted_row_and_its_page_shows_lineage(browser: Any, served: str) -> None:
    with watch(browser) as seen:
        page = seen.page
        page.goto(f"{served}/run/one/rows")
        page.fill("#f-q", "planted NEEDLE")
        page.keyboard.press("Enter")
        page.wait_for_url("**q=planted*")
        assert page.locator("p.count").text_content().startswith("1 row")
        page.click("table.rows a")
        assert page.title().startswith("one: row planted")
        children = page.locator("section[aria-labelledby=lineage] ul a")
        assert children.count() > 0
        children.first.click()
        assert page.locator("section[aria-labelledby=lineage] ol a").last.text_content() == ATTACKS[0]
        assert page.locator("h1").count() == 1
        assert seen.complaints == []


def test_hostile_rows_do_nothing_anywhere(browser: Any, served: str) -> None:
    with watch(browser) as seen:
        for place in ("/run/one/", "/run/one/rows?rows=00-corpus", "/run/one/threshold"):
            seen.page.goto(served + place, wait_until="networkidle")
            assert "owned" not in seen.page.title()
            assert seen.page.locator("h1").count() == 1
        for attack in range(len(ATTACKS)):
            seen.page.goto(f"{served}/run/one/row/planted{attack:017d}", wait_until="networkidle")
            assert "owned" not in seen.page.title()
        assert seen.complaints == []
        assert all(asked.startswith((served, "data:")) for asked in seen.asked)


def test_the_page_follows_a_run_as_it_goes(browser: Any, own_runs: Path) -> None:
    run = own_runs / "two"
    stage = run / "stages" / "01-evaluate"
    record = json.loads((stage / "stage.json").read_text())
    (stage / "stage.json").unlink()
    (stage / "begun.json").write_text("{}")
    (run / ".lock").write_text("1\n", encoding="ascii")
    told = ProgressFile(Quiet(), run)
    told.started("round 1: evaluate", 80)
    server = Server(own_runs)
    try:
        with watch(browser) as seen:
            page = seen.page
            page.goto(f"{server.address}/run/two/")
            assert page.locator("#live .state").text_content() == "running"
            assert "no round of TAPIR is evaluated yet" in page.locator("h1").text_content()
            told._written = 0
            told.advanced("round 1: evaluate", 60, 80, 0, "")
            seen.until("document.querySelector('#live progress').value === 0.75")
            seen.picture("serve-live")
            told.finished("round 1: evaluate", record, is_replayed=False)
            (stage / "begun.json").unlink()
            (stage / "stage.json").write_text(json.dumps(record))
            seen.until("document.querySelector('h1').textContent.startsWith('TAPIR ')")
            seen.until("document.querySelector('#live .state').textContent === 'finished'")
            assert page.locator("#by-round").count() == 1
            assert seen.complaints == []
    finally:
        server.close()


def test_the_report_is_saved_with_the_token_and_not_without(browser: Any, own_runs: Path) -> None:
    server = Server(own_runs)
    page_file = own_runs / "two" / "report.html"
    try:
        with watch(browser) as seen:
            page = seen.page
            page.goto(f"{server.address}/run/two/")
            page.click("form.save button")
            seen.until("document.querySelector('[data-said]').textContent.includes('token is missing')")
            assert not page_file.exists()
            page.goto(f"{server.address}/run/two/rows#token={TOKEN}")
            assert "#" not in page.url
            page.goto(f"{server.address}/run/two/")
            page.click("form.save button")
            seen.until("document.querySelector('[data-said]').textContent.startsWith('Written')")
            assert page_file.exists()
    finally:
        server.close()


def test_everything_can_be_reached_by_keyboard(browser: Any, served: str) -> None:
    with watch(browser) as seen:
        page = seen.page
        page.goto(f"{served}/run/one/rows")
        reached = []
        for _ in range(30):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        assert {"f-rows", "f-q", "f-task", "f-low", "f-sort", "Show", "Threshold"} <= set(reached)
        page.goto(f"{served}/run/one/threshold", wait_until="networkidle")
        page.focus("#delta")
        before = page.locator("#delta-out").text_content()
        page.keyboard.press("ArrowRight")
        assert number(page.locator("#delta-out").text_content()) == pytest.approx(number(before) + 0.1)
        page.focus('input[aria-label="weight of Math"]')
        page.keyboard.press("Home")
        assert "Math" not in page.input_value("#yaml")

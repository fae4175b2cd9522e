"""A real Chromium for tests: Debian's, driven by Playwright; absent, its tests are skipped with the reason."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ARTIFACTS = Path(__file__).parents[2] / "artifacts"
"""Screenshots are kept here, to be looked at."""

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

DESK = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}

OVERFLOW = "document.documentElement.scrollWidth > document.documentElement.clientWidth"

CONTRAST = """() => {
  const parse = (text) => {
    const found = text.match(/[\\d.]+/g).map(Number);
    return found.length > 3 && text.includes('rgba') ? found : [...found.slice(0, 3), 1];
  };
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0) return colour;
    }
    return [255, 255, 255, 1];
  };
  const weak = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !one.checkVisibility({ contentVisibilityAuto: true })) continue;
    if (one.closest('.visually-hidden, .skip, option')) continue;
    const style = getComputedStyle(one);
    const ink = parse(one instanceof SVGElement ? style.fill : style.color);
    const [light, dark] = [luminance(ink), luminance(behind(one))].sort((a, b) => b - a);
    const ratio = (light + 0.05) / (dark + 0.05);
    const name = `${one.tagName}.${one.getAttribute('class')}: ${one.textContent.slice(0, 30)}`;
    if (ratio < 4.5) weak.push(`${ratio.toFixed(2)} ${name}`);
  }
  return [...new Set(weak)];
}"""
"""Texts whose contrast with what is behind them is below 4.5 to 1."""

UNNAMED = """() => [
  ...document.querySelectorAll('a, button, input, select, textarea, summary, svg[role=img], progress'),
].filter((one) => one.checkVisibility())
  .filter((one) => !(one.labels && one.labels.length) && !one.getAttribute('aria-label') && !one.textContent.trim())
  .map((one) => one.outerHTML.slice(0, 120))"""
"""Controls and drawings without a name."""


@dataclass
class Watched:
    """A page with everything that it complained of and asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def dismiss(self, dialog: Any) -> None:
        """Note a dialog and close it."""
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def until(self, claim: str, seconds: float = 20) -> None:
        """Wait until JavaScript's `claim` holds; the pages' policy forbids Playwright's own way of waiting for that."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(claim):
            assert time.monotonic() < end, f"in vain: {claim}"
            self.page.wait_for_timeout(50)

    def picture(self, name: str) -> None:
        """Keep a screenshot of the whole page."""
        ARTIFACTS.mkdir(exist_ok=True)
        self.page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A running Chromium. Its driver keeps an event loop running, so it ends with the tests of its module."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield found
        found.close()


@contextmanager
def watch(browser: Any, size: dict[str, int] = DESK, **options: Any) -> Iterator[Watched]:
    """A new page whose errors, dialogs and requests are noted."""
    context = browser.new_context(viewport=size, **options)
    found = Watched(context.new_page())
    found.page.on("console", lambda message: found.complaints.append(message.text) if message.type == "error" else None)
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    found.page.on("dialog", found.dismiss)
    found.page.on("request", lambda request: found.asked.append(request.url))
    try:
        yield found
    finally:
        context.close()

"""Make the pictures of the documentation anew from a finished run: docs/images/*.png.

    python scripts/screenshots.py [RUN]

Needs Debian's chromium and the extra `dev` (Playwright). The default run is runs/demo.
"""

import argparse
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import sync_playwright

from tapir.report import write_report
from tapir.serve import guarded, settings
from tapir.serve.library import Library

IMAGES = Path(__file__).parents[1] / "docs" / "images"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
DESK = {"width": 1180, "height": 860}
PHONE = {"width": 390, "height": 844}
SHARPNESS = 1.5
"""Pixels of the picture per pixel of the page."""
MARGIN = 28
"""Pixels of paper kept around a section."""


def main() -> int:
    """Take every picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/demo"))
    run: Path = parser.parse_args().run
    executable = shutil.which("chromium")
    if executable is None:
        print("no chromium on this machine: apt-get install chromium", file=sys.stderr)
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    report = write_report(run).resolve().as_uri()
    with sync_playwright() as driver, serving(run) as served:
        browser = driver.chromium.launch(executable_path=executable, args=list(FLAGS))
        top(browser, report, "report", DESK, "light")
        top(browser, report, "report-dark", DESK, "dark")
        top(browser, report, "report-phone", PHONE, "light")
        for section in ("flow", "difficulty", "tasks", "curriculum"):
            part(browser, report, f"report-{section}", f"section#{section}")
        address = f"{served}/run/{run.resolve().name}"
        top(browser, f"{address}/rows?sort=-mfd", "serve-rows", DESK, "light")
        top(browser, f"{address}/threshold", "serve-threshold", DESK, "light")
        browser.close()
    return 0


@contextmanager
def serving(run: Path) -> Iterator[str]:
    """`tapir serve` on a free port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = int(listening.getsockname()[1])
        server = uvicorn.Server(settings(guarded(Library(run), "127.0.0.1", port, "unused")))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def opened(browser: Any, address: str, size: dict[str, int], scheme: str) -> Iterator[Any]:
    """A page at rest."""
    context = browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=SHARPNESS)
    page = context.new_page()
    page.goto(address, wait_until="networkidle")
    yield page
    context.close()


def top(browser: Any, address: str, name: str, size: dict[str, int], scheme: str) -> None:
    """A picture of what is seen first."""
    with opened(browser, address, size, scheme) as page:
        save(page, name)


def part(browser: Any, address: str, name: str, selector: str) -> None:
    """A picture of one section."""
    with opened(browser, address, DESK, "light") as page:
        box = page.locator(selector).bounding_box()
        page.set_viewport_size({"width": DESK["width"], "height": int(box["y"] + box["height"]) + MARGIN})
        box = page.locator(selector).bounding_box()
        area = {
            "x": box["x"] - MARGIN,
            "y": box["y"] - MARGIN / 2,
            "width": box["width"] + 2 * MARGIN,
            "height": box["height"] + MARGIN / 2,
        }
        save(page, name, clip=area)


def save(page: Any, name: str, **options: Any) -> None:
    """Write one picture."""
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path, **options)
    print(path)


if __name__ == "__main__":
    sys.exit(main())

"""How fast the report and the explorer are, on synthetic runs of 52,000 and 1,000,000 rows.

    python benchmarks/report.py [--json] [--runs DIR] [--rows N ...]

Every figure is measured in a fresh process. The limits are the project's own: a report of 52,000 rows in 20 s and 1 GB;
of 1,000,000 rows the explorer's first page in 300 ms and a filtered text search in 2 s; two cores.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPORT_ROWS = 52_000
EXPLORER_ROWS = 1_000_000
LIMITS = {"report_s": 20.0, "report_gb": 1.0, "first_page_ms": 300.0, "filtered_search_ms": 2000.0}
REPEATS = 3
"""Fresh processes for each figure; the best counts, for the machine may be busy with something else."""

SEARCHES = {
    "filtered_search_ms": "q=quixotic+zephyr&task=Math",
    "instruction_search_ms": "q=quixotic+zephyr&where=instruction",
    "sorted_by_mfd_ms": "sort=-mfd",
    "mfd_range_ms": "low=3&high=4",
}
"""Queries to the explorer, each answered for the first time. Their CPU time tells more on a busy machine."""


def measure_report(run: Path) -> dict[str, float]:
    """Write a run's report in this process."""
    began = time.perf_counter()
    from tapir.report import write_report

    page = write_report(run)
    seconds = time.perf_counter() - began
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"report_s": seconds, "report_gb": peak_gb, "page_mb": page.stat().st_size / 1e6}


def measure_explorer(run: Path) -> dict[str, float]:
    """Ask the explorer as a browser does, in this process, the first page first."""
    from starlette.testclient import TestClient

    from tapir.serve import guarded
    from tapir.serve.library import Library

    origin = "http://127.0.0.1:8732"
    client = TestClient(guarded(Library(run), "127.0.0.1", 8732, "token"), base_url=origin)
    client.get("/static/report.css")
    found = {"first_page_ms": ask(client, f"/run/{run.name}/rows")}
    found["second_page_ms"] = ask(client, f"/run/{run.name}/rows?page=2")
    for name, query in SEARCHES.items():
        began = time.process_time()
        found[name] = ask(client, f"/run/{run.name}/rows?{query}")
        found[name.removesuffix("_ms") + "_cpu_ms"] = 1000 * (time.process_time() - began)
    found["search_again_ms"] = ask(client, f"/run/{run.name}/rows?{SEARCHES['filtered_search_ms']}&page=2")
    line = client.get(f"/run/{run.name}/rows?sort=-mfd").text
    address = line.partition('href="/run/')[2].partition("/row/")[2].partition('"')[0]
    found["row_page_ms"] = ask(client, f"/run/{run.name}/row/{address}")
    found["explorer_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return found


def ask(client: Any, address: str) -> float:
    """Milliseconds until a page is there."""
    began = time.perf_counter()
    answer = client.get(address)
    took = time.perf_counter() - began
    if answer.status_code != 200:
        raise SystemExit(f"{address}: {answer.status_code} {answer.text[:200]}")
    return 1000 * took


def fresh(what: str, run: Path) -> dict[str, float]:
    """The best of several fresh processes, figure by figure."""
    command = [sys.executable, __file__, "--measure", what, str(run)]
    found = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(REPEATS)]
    return {name: min(one[name] for one in found) for name in found[0]}


def run_of(runs: Path, rows: int) -> Path:
    """The synthetic run of so many rows, made where it is not there yet."""
    from report_runs import build_run

    home = runs / f"synthetic-{rows}"
    return home if (home / "whole").exists() else _whole(build_run(runs, rows))


def _whole(run: Path) -> Path:
    (run / "whole").touch()
    return run


def main() -> None:
    """Make the runs, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--runs", type=Path, help="keep the synthetic runs here, and use those that are there")
    parser.add_argument("--rows", type=int, nargs=2, default=(REPORT_ROWS, EXPLORER_ROWS), metavar="N")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "RUN"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure = {"report": measure_report, "explorer": measure_explorer}[given.measure[0]]
        print(json.dumps(measure(Path(given.measure[1]))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        runs = given.runs or Path(scratch)
        found = fresh("report", run_of(runs, given.rows[0])) | fresh("explorer", run_of(runs, given.rows[1]))
    rounded = {name: round(value, 3) for name, value in found.items()}
    within = {name: rounded[name] <= limit for name, limit in LIMITS.items()}
    load = os.getloadavg()[0]
    if given.json:
        print(json.dumps({"figures": rounded, "limits": LIMITS, "within": within, "rows": given.rows, "load": load}))
    else:
        for name, value in rounded.items():
            limit = f"  (limit {LIMITS[name]:g}: {'kept' if within[name] else 'MISSED'})" if name in LIMITS else ""
            print(f"{name:24} {value:10,.3f}{limit}")
        print(f"load average at the end: {load:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()

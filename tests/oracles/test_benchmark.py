"""The benchmark runs, and tapir keeps its promise on CPU time beside its rivals."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "oracle.py"


@pytest.mark.slow
def test_a_call_costs_little_more_cpu_than_the_bare_loop() -> None:
    arguments = [sys.executable, str(BENCHMARK), "--only", "cpu", "--only", "faults", "--repeats", "1", "--json"]
    found = json.loads(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)
    cost = found["cpu_ms_per_call"]
    assert cost["tapir"] <= 2.5 * cost["bare"]
    assert cost["tapir"] <= 0.5 * cost["sdk"]
    assert (found["lost"], found["repeated"]) == (0, 0)
    assert found["scenarios"]["faults"]["tapir"]["requests"] > 2000
    assert max(found["rss_mb"].values()) < 150

"""tapir's client of a chat endpoint, side by side with the AsyncOpenAI SDK and with a bare aiohttp loop as the limit.

    python benchmarks/oracle.py                     # every scenario, a table
    python benchmarks/oracle.py --only cpu --json   # one scenario, for machines
    python benchmarks/oracle.py --scale 0.2         # shorter latencies

Server and clients are processes of their own, so that a client's CPU time is its own. tapir runs as a role would run
it: with the ledger on disk (synced before a reply is used), retries, budget and adaptive concurrency. CPU per call is
process time between first and last call and the figure to trust on a shared machine; wall times need a quiet one.
"""

import argparse
import asyncio
import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CLIENTS = ("tapir", "bare", "sdk")
REPLY_CHARS = 800


@dataclass
class Scenario:
    """What the server does, and how it is asked."""

    calls: int = 2000
    in_flight: int = 64
    latency_s: float = 0.0
    sigma: float = 0.0
    """Of the lognormal latency whose median is latency_s; 0: fixed."""
    capacity: int | None = None
    faults: bool = False
    hangs: float = 0.0
    timeout_s: float = 60.0
    start: int | None = None
    """tapir's start_concurrency; None: its default."""


@dataclass
class Result:
    """What a client measured of itself, and what the server saw of it."""

    client: str
    wall_s: float = 0.0
    cpu_ms_per_call: float = 0.0
    answered: int = 0
    lost: int = 0
    rss_mb: float = 0.0
    """Peak memory beyond what the imports take."""
    requests: int = 0
    rejected: int = 0
    repeated: int = 0
    """Requests beyond those that the calls, the server's faults and a kill (its calls in flight) made necessary."""
    mean_in_flight: float = 0.0
    """Between first and last request, as the server counts."""
    capacity: float | None = None
    """Good answers over what the server could have given in the time from first to last request."""
    span_s: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)


# --- the server -----------------------------------------------------------------------------------------------------


def serve(scenario: Scenario) -> None:
    """Run the server until stdin closes; the port and then the load go to stdout."""
    from tapir.testing.server import Act, Call, FaultyServer, hang, malformed, reply, reset, status

    text = "y" * REPLY_CHARS

    def plan(call: Call) -> Act:
        draw = random.Random(f"{call.prompt[:40]} {call.attempt}")
        latency_s = scenario.latency_s * math.exp(scenario.sigma * draw.gauss(0, 1)) if scenario.sigma else None
        chance = draw.random()
        if scenario.faults and chance < 0.04:
            return status(500) if chance < 0.02 else reset() if chance < 0.03 else malformed()
        if call.attempt == 0 and draw.random() < scenario.hangs:
            return hang()
        return reply(text, usage=(90, 200), latency_s=latency_s)

    good = Act(text=text, usage=(90, 200))
    is_plain = not (scenario.sigma or scenario.faults or scenario.hangs)
    server = FaultyServer(
        (lambda call: good) if is_plain else plan,
        latency_s=scenario.latency_s,
        capacity=scenario.capacity,
        keep_calls=False,
    )
    with server:
        print(server.port, flush=True)
        sys.stdin.read()
        load = server.load
        print(
            json.dumps(
                {
                    "answered": load.answered,
                    "statuses": dict(load.statuses),
                    "span_s": load.last_s - load.first_s,
                    "mean_in_flight": load.mean_in_flight,
                    "peak": load.peak,
                    "requests": sum(server.asked.values()),
                    "answered_again": sum(count - 1 for count in server.given.values()),
                }
            ),
            flush=True,
        )


@contextmanager
def running_server(scenario: Scenario) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """The address of a server in a process of its own, and a function that ends it and gives its load."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", json.dumps(asdict(scenario))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def finish() -> dict[str, Any]:
        stdin.close()
        return dict(json.loads(stdout.readline()))

    try:
        yield f"http://127.0.0.1:{int(stdout.readline())}/v1", finish
    finally:
        if not stdin.closed:
            stdin.close()
        process.wait(30)
        stdout.close()


# --- the clients ----------------------------------------------------------------------------------------------------


def memory_mb(name: str) -> float:
    """`VmRSS` or `VmHWM` of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    return 0.0


def client(name: str, base_url: str, scenario: Scenario, directory: Path) -> None:
    """Run one client in this process; its measurements go to stdout."""
    from oracle_clients import RUN

    async def consume() -> tuple[int, int]:
        good = lost = 0
        async for text in RUN[name](base_url, scenario, directory):
            good += bool(text)
            lost += not text
        return good, lost

    async def main() -> None:
        if name == "tapir":
            import tapir.oracles.build  # noqa: F401 - counted as start-up
        elif name == "sdk":
            import openai.resources.chat  # noqa: F401 - counted as start-up
        else:
            import aiohttp  # noqa: F401 - counted as start-up
        base_mb = memory_mb("VmRSS")
        wall, cpu = time.perf_counter(), time.process_time()
        good, lost = await consume()
        result = {
            "wall_s": time.perf_counter() - wall,
            "cpu_ms_per_call": (time.process_time() - cpu) / scenario.calls * 1e3,
            "answered": good,
            "lost": lost,
            "rss_mb": memory_mb("VmHWM") - base_mb,
        }
        print(json.dumps(result), flush=True)

    asyncio.run(main())


def start_client(name: str, base_url: str, scenario: Scenario, directory: Path) -> subprocess.Popen[str]:
    """A client in a process of its own."""
    arguments = [sys.executable, __file__, "--client", name, base_url, json.dumps(asdict(scenario)), str(directory)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


# --- the scenarios --------------------------------------------------------------------------------------------------


def measure(name: str, scenario: Scenario) -> Result:
    """One client through one scenario."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as directory, running_server(scenario) as (url, end):
        process = start_client(name, url, scenario, Path(directory))
        out, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"client {name} failed with exit code {process.returncode}")
        return joined(name, scenario, json.loads(out.splitlines()[-1]), end())


def joined(name: str, scenario: Scenario, own: dict[str, Any], load: dict[str, Any]) -> Result:
    """A client's own measurements with those of its server."""
    statuses = {int(code): count for code, count in load["statuses"].items()}
    span_s = load["span_s"]
    result = Result(client=name, requests=load["requests"] + statuses.get(429, 0), span_s=span_s, **own)
    result.rejected = statuses.get(429, 0)
    result.lost = scenario.calls - result.answered
    result.repeated = max(0, load["requests"] - scenario.calls - faults_in(scenario, load))
    if scenario.latency_s:
        tail = scenario.latency_s if not scenario.sigma else 0.0
        result.mean_in_flight = load["mean_in_flight"]
        if scenario.capacity:
            result.capacity = load["answered"] * scenario.latency_s / (scenario.capacity * (span_s + tail))
    return result


def faults_in(scenario: Scenario, load: dict[str, Any]) -> int:
    """Requests that a fault of the server made necessary to repeat."""
    if scenario.faults or scenario.hangs:
        return int(load["requests"]) - int(load["answered"])
    return 0


def with_ideal(name: str, scenario: Scenario) -> Result:
    """Where latency varies: the time that it takes at best."""
    result = measure(name, scenario)
    mean = scenario.latency_s * math.exp(scenario.sigma**2 / 2)
    result.notes["ideal_s"] = round(scenario.calls * mean / scenario.in_flight, 2)
    return result


def killed(name: str, scenario: Scenario) -> Result:
    """kill -9 half way, run again: how many requests are sent again beyond those in flight at the kill.

    A reply that the server had sent and the client had not read yet counts as in flight; the note has these too.
    """
    with tempfile.TemporaryDirectory() as directory, running_server(scenario) as (url, end):
        first = start_client(name, url, scenario, Path(directory))
        time.sleep(1.0 + scenario.calls * scenario.latency_s / scenario.in_flight / 2)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        time.sleep(2 * scenario.latency_s)
        second = start_client(name, url, scenario, Path(directory))
        out, _ = second.communicate()
        load = end()
        result = joined(name, scenario, json.loads(out.splitlines()[-1]), load)
    result.notes["prompts that the server answered twice"] = load["answered_again"]
    result.repeated = max(0, result.repeated - scenario.in_flight)
    return result


def scenarios(scale: float) -> dict[str, tuple[Scenario, tuple[str, ...]]]:
    """Every scenario by name, with the clients that can take part."""
    both = ("tapir", "sdk")
    return {
        "cpu": (Scenario(), CLIENTS),
        "latency": (Scenario(latency_s=0.2, in_flight=256, start=256), CLIENTS),
        "latency-adaptive": (Scenario(latency_s=0.2, in_flight=256), ("tapir",)),
        "lognormal": (Scenario(latency_s=scale, sigma=0.6), CLIENTS),
        "capacity": (Scenario(latency_s=scale, capacity=64), both),
        "faults": (Scenario(latency_s=0.05, faults=True), both),
        "kill": (Scenario(latency_s=0.2), both),
        "hangs": (Scenario(latency_s=0.05, hangs=0.01, timeout_s=3.0), both),
        "memory-2000": (Scenario(), ("tapir",)),
        "memory-100000": (Scenario(calls=100_000), ("tapir",)),
    }


def run_scenario(name: str, scenario: Scenario, clients: tuple[str, ...], repeats: int) -> list[Result]:
    """The results of all clients; in turns and the median of CPU and wall, where a scenario is repeated."""
    how = {"kill": killed, "lognormal": with_ideal}.get(name, measure)
    times = repeats if name in ("cpu", "latency") else 1
    rounds = [[how(client, scenario) for client in clients] for _ in range(times)]
    results = []
    for runs in zip(*rounds, strict=True):
        middle = sorted(runs, key=lambda run: run.wall_s)[len(runs) // 2]
        middle.cpu_ms_per_call = statistics.median(run.cpu_ms_per_call for run in runs)
        results.append(middle)
    return results


def summary(done: dict[str, list[Result]]) -> dict[str, Any]:
    """The figures to compare with the promises, and all results by scenario."""
    tapir = {name: results[0] for name, results in done.items()}
    out: dict[str, Any] = {}
    if "cpu" in done:
        out["cpu_ms_per_call"] = {r.client: round(r.cpu_ms_per_call, 4) for r in done["cpu"]}
    if "latency" in done:
        out["latency_bound_s"] = round(tapir["latency"].wall_s, 3)
    if "capacity" in done:
        out["capacity"] = round(tapir["capacity"].capacity or 0.0, 4)
    out["lost"] = sum(result.lost for result in tapir.values())
    out["repeated"] = sum(result.repeated for result in tapir.values())
    out["rss_mb"] = {name: round(result.rss_mb, 1) for name, result in tapir.items()}
    out["scenarios"] = {
        name: {result.client: {k: v for k, v in asdict(result).items() if k != "client"} for result in results}
        for name, results in done.items()
    }
    return out


def show(name: str, scenario: Scenario, results: list[Result]) -> None:
    """One scenario as a table."""
    print(f"\n{name}: {scenario.calls} calls, {scenario.in_flight} in flight, latency {scenario.latency_s:g} s")
    print(
        f"{'client':8}{'CPU ms/call':>12}{'wall s':>9}{'lost':>7}{'requests':>10}{'repeated':>10}{'429s':>7}"
        f"{'in flight':>11}{'capacity':>10}{'RSS MB':>8}"
    )
    for r in results:
        capacity = "" if r.capacity is None else f"{r.capacity:.1%}"
        print(
            f"{r.client:8}{r.cpu_ms_per_call:12.3f}{r.wall_s:9.2f}{r.lost:7}{r.requests:10}{r.repeated:10}"
            f"{r.rejected:7}{r.mean_in_flight:11.1f}{capacity:>10}{r.rss_mb:8.1f}"
        )
    for r in results:
        for note, value in r.notes.items():
            print(f"  {r.client}: {note}: {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="a scenario; may be given more than once")
    parser.add_argument("--scale", type=float, default=1.0, help="latency of the long scenarios, in seconds")
    parser.add_argument("--repeats", type=int, default=3, help="times that cpu and latency are measured")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--client", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(Scenario(**json.loads(given.serve)))
        return
    if given.client:
        name, url, scenario, directory = given.client
        client(name, url, Scenario(**json.loads(scenario)), Path(directory))
        return
    done = {}
    for name, (scenario, clients) in scenarios(given.scale).items():
        if given.only and name not in given.only:
            continue
        done[name] = run_scenario(name, scenario, clients, given.repeats)
        if not given.json:
            show(name, scenario, done[name])
    if given.json:
        print(json.dumps(summary(done), indent=2))


if __name__ == "__main__":
    main()

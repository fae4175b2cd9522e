"""Rows a second and peak memory of reading, deduplication, tagging and contamination, on synthetic rows.

    python benchmarks/data.py                              # 10k and 100k rows
    python benchmarks/data.py --rows 1000000               # without datasketch, and the encoder above --encoder-rows
    python benchmarks/data.py --rows 1000000 --case read-jsonl --json out.json

Every measurement runs in a process of its own, so that its peak memory is its own; `extra MB` is what it adds to the
memory after imports. CPU seconds are those of the process: on a busy machine they are the number to compare.
The rows: 20 words of instruction and 60 of response from a vocabulary of 20,000 words with natural frequencies; one in
twenty repeats an earlier instruction with one word changed, one in a hundred repeats one exactly.
"""

import argparse
import csv
import itertools
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

VOCABULARY = 20_000
NEAR_EVERY, EXACT_EVERY = 20, 100
EVALUATION_TEXTS = 5_000
SIMILARITY = 0.8
ENCODER_ROWS = 2_000
"""Most rows that the encoder is timed on, by default: made-up words have many tokens, natural text is faster."""


@dataclass(frozen=True)
class Case:
    """One thing to measure."""

    run: Callable[[int, Path], dict[str, Any]]
    """Takes the number of rows and an empty directory; whatever it does before `started()` is not measured."""
    most_rows: int | None = None
    """Larger numbers of rows are left out: they would take too long."""


class _Clock:
    """When the measured part began, and the memory at that time."""

    wall = cpu = 0.0
    peak_mb = 0.0


def started() -> None:
    """The measured part begins here."""
    _Clock.peak_mb = _now_mb()
    _Clock.wall, _Clock.cpu = time.perf_counter(), time.process_time()


def _peak_mb() -> float:
    """Most memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _now_mb() -> float:
    """Memory now; the most so far where the system does not tell."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * resource.getpagesize() / (1 << 20) if status.exists() else _peak_mb()


def texts(rows: int) -> Iterator[tuple[str, str]]:
    """Instructions and responses, the same in every process."""
    rng = random.Random(1)
    vocabulary = [f"{rng.choice('bcdfgmprst')}{'aeiou'[i % 5]}{i:x}" for i in range(VOCABULARY)]
    weights = list(itertools.accumulate(1 / (i + 1) for i in range(VOCABULARY)))
    recent: list[list[str]] = []
    for number in range(rows):
        words = rng.choices(vocabulary, cum_weights=weights, k=80)
        asked = words[:20]
        if number % EXACT_EVERY == EXACT_EVERY - 1:
            asked = list(rng.choice(recent))
        elif number % NEAR_EVERY == NEAR_EVERY - 1:
            asked = list(rng.choice(recent))
            asked[-1] = "changed"
        elif len(recent) < 1000:
            recent.append(asked)
        else:
            recent[number % 1000] = asked
        yield " ".join(asked), " ".join(words[20:])


def records(rows: int) -> Iterator[dict[str, str]]:
    """Rows as files hold them."""
    return ({"instruction": asked, "input": "", "output": answer} for asked, answer in texts(rows))


def _write_jsonl(path: Path, rows: int) -> None:
    with path.open("w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records(rows))


def _write_json(path: Path, rows: int) -> None:
    with path.open("w") as file:
        for number, record in enumerate(records(rows)):
            file.write((",\n" if number else "[") + json.dumps(record))
        file.write("]")


def _write_csv(path: Path, rows: int) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["instruction", "input", "output"])
        writer.writeheader()
        writer.writerows(records(rows))


def _write_parquet(path: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in ("instruction", "input", "output")])
    with pq.ParquetWriter(path, schema) as writer:
        for batch in _batched(records(rows), 20_000):
            writer.write_table(pa.Table.from_pylist(list(batch), schema=schema))


def _batched(items: Iterator[Any], size: int) -> Iterator[tuple[Any, ...]]:
    while batch := tuple(itertools.islice(items, size)):
        yield batch


def _reading(suffix: str, write: Callable[[Path, int], None]) -> Callable[[int, Path], dict[str, Any]]:
    """Reading and cleaning a file of one format."""

    def run(rows: int, directory: Path) -> dict[str, Any]:
        from tapir.corpus import Cleaning, clean, read_rows
        from tapir.rows import Example

        path = directory / f"rows.{suffix}"
        subprocess.run([sys.executable, __file__, "--write", str(path), "--rows", str(rows)], check=True)
        next(iter(read_rows(path)))
        started()
        cleaning = Cleaning()
        kept = sum(isinstance(clean(raw, cleaning).row, Example) for raw in read_rows(path))
        return {"kept": kept, "file MB": round(path.stat().st_size / (1 << 20), 1)}

    return run


def dedup(rows: int, directory: Path) -> dict[str, Any]:
    """Near-duplicates with tapir."""
    from tapir.dedup import NearDuplicates

    made = [asked for asked, _ in texts(rows)]
    started()
    index = NearDuplicates(SIMILARITY)
    found = sum(index.add(f"{number:024d}", text) is not None for number, text in enumerate(made))
    return {"found": found, "planted": _planted(rows)}


def dedup_datasketch(rows: int, directory: Path) -> dict[str, Any]:
    """Near-duplicates with datasketch, on the same shingles, at its defaults (128 permutations)."""
    from datasketch import MinHash, MinHashLSH

    from tapir.dedup import shingled
    from tapir.words import words

    made = [asked for asked, _ in texts(rows)]
    started()
    index = MinHashLSH(threshold=SIMILARITY, num_perm=128)
    found = 0
    for number, text in enumerate(made):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([shingle.encode() for shingle in shingled(words(text), "")])
        if index.query(sketch):
            found += 1
        else:
            index.insert(f"{number:024d}", sketch)
    return {"found": found, "planted": _planted(rows)}


def _tagging(encoder: str) -> Callable[[int, Path], dict[str, Any]]:
    """The whole of `tapir tag FILE --out OUT`: read, clean, label by the shipped heads, write."""

    def run(rows: int, directory: Path) -> dict[str, Any]:
        import torch

        from tapir.classifiers.tag import classifier_for, tag_file

        torch.set_num_threads(1)
        path = directory / "rows.jsonl"
        subprocess.run([sys.executable, __file__, "--write", str(path), "--rows", str(rows)], check=True)
        classifier = classifier_for(encoder=encoder)
        (directory / "one.jsonl").write_text('{"instruction": "How is this so?", "output": "It is."}\n')
        tag_file(str(directory / "one.jsonl"), classifier)
        started()
        tags = tag_file(str(path), classifier, directory / "tags.jsonl")
        return {"labelled": tags.rows, "refused": tags.refused}

    return run


def _planted(rows: int) -> int:
    return rows // NEAR_EVERY


def contamination(rows: int, directory: Path) -> dict[str, Any]:
    """13-gram overlap with evaluation texts, of which one in a hundred rows holds one."""
    from tapir.contamination import EvaluationIndex

    made = [asked for asked, _ in texts(rows)]
    held = made[:: max(100, rows // EVALUATION_TEXTS)]
    started()
    index = EvaluationIndex(held)
    found = sum(index.hits(text) is not None for text in made)
    return {"found": found, "evaluation texts": len(held)}


def corpus(rows: int, directory: Path) -> dict[str, Any]:
    """The whole corpus stage: read, clean, deduplicate."""
    import asyncio

    from tapir.config import CorpusConfig
    from tapir.corpus import FileCorpus
    from tapir.rows import Example

    path = directory / "rows.jsonl"
    subprocess.run([sys.executable, __file__, "--write", str(path), "--rows", str(rows)], check=True)

    class Stage:
        name, work = "corpus", directory

        def expect(self, rows: int) -> None: ...

        def note(self, **values: Any) -> None: ...

        def progress(self, done: float, total: float, text: str = "") -> None: ...

    async def read() -> int:
        role = FileCorpus(CorpusConfig(path=str(path)))
        return sum([isinstance(row, Example) async for row in role.read(Stage())])

    started()
    return {"kept": asyncio.run(read())}


WRITERS = {".jsonl": _write_jsonl, ".json": _write_json, ".csv": _write_csv, ".parquet": _write_parquet}
CASES = {
    "read-jsonl": Case(_reading("jsonl", _write_jsonl)),
    "read-json": Case(_reading("json", _write_json)),
    "read-csv": Case(_reading("csv", _write_csv)),
    "read-parquet": Case(_reading("parquet", _write_parquet)),
    "dedup": Case(dedup),
    "dedup-datasketch": Case(dedup_datasketch, most_rows=100_000),
    "tag": Case(_tagging("none")),
    "tag-encoder": Case(_tagging("auto"), most_rows=ENCODER_ROWS),
    "contamination": Case(contamination),
    "corpus": Case(corpus),
}
"""Every case by name; a new one is a function from rows and a directory to what it found."""


def measure(case: str, rows: int) -> dict[str, Any]:
    """One measurement, in a process of its own."""
    command = [sys.executable, __file__, "--one", case, "--rows", str(rows)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def run_one(case: str, rows: int) -> dict[str, Any]:
    """The measurement itself."""
    with tempfile.TemporaryDirectory() as directory:
        found = CASES[case].run(rows, Path(directory))
        wall, cpu = time.perf_counter() - _Clock.wall, time.process_time() - _Clock.cpu
    return {
        "case": case,
        "rows": rows,
        "seconds": round(wall, 3),
        "cpu_seconds": round(cpu, 3),
        "rows_per_second": round(rows / wall),
        "rows_per_cpu_second": round(rows / cpu),
        "peak_mb": round(_peak_mb(), 1),
        "extra_mb": round(max(0.0, _peak_mb() - _Clock.peak_mb), 1),
        "found": found,
    }


def _processor() -> str:
    """The processor's name and its cores, where the system tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {os.cpu_count()} cores"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--case", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--encoder-rows", type=int, default=ENCODER_ROWS, help="most rows of the case tag-encoder")
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        WRITERS[given.write.suffix](given.write, given.rows[0])
        return
    if given.one:
        print(json.dumps(run_one(given.one, given.rows[0])))
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table("case", *(["rows", "seconds", "rows/s", "rows/CPU s", "peak MB", "extra MB"]), "found")
    results = []
    for rows, case in itertools.product(given.rows, given.case):
        most = given.encoder_rows if case == "tag-encoder" else CASES[case].most_rows
        if most is not None and rows > most:
            continue
        try:
            one = measure(case, rows)
        except subprocess.CalledProcessError as error:
            print(f"{case}, {rows:,} rows: not measured, its process ended with {error.returncode}", file=sys.stderr)
            continue
        results.append(one)
        if given.json:
            machine = {"python": platform.python_version(), "machine": platform.platform(), "processor": _processor()}
            given.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")
        numbers = ("rows", "seconds", "rows_per_second", "rows_per_cpu_second", "peak_mb", "extra_mb")
        table.add_row(
            case,
            *(f"{one[name]:,}" for name in numbers),
            ", ".join(f"{key} {value:,}" for key, value in one["found"].items()),
        )
        print(
            f"{case}, {rows:,} rows: {one['rows_per_second']:,} rows/s, {one['extra_mb']:,} MB extra", file=sys.stderr
        )
    console.print(table)


if __name__ == "__main__":
    main()

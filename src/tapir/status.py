"""What a run has done so far, read from its directory alone: while it goes, after it, or after a crash."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from tapir.errors import ResumeError
from tapir.evaluation.results import PARTS, Difference, Summary, paired_difference, summarise
from tapir.oracles.ledger_file import LEDGER, run_spending
from tapir.oracles.money import Spending, total
from tapir.rows import Evaluated
from tapir.store.files import read_json, read_record, read_rows


@dataclass(frozen=True)
class StageStatus:
    """One stage that is whole."""

    name: str
    round: int
    rows_in: int
    kept: int
    refused: dict[str, int]
    seconds: float
    notes: dict[str, Any]


@dataclass(frozen=True)
class Status:
    """A run's state and results."""

    name: str
    is_finished: bool
    rounds_done: int
    rounds: int
    stages: list[StageStatus]
    running: list[str]
    """Stages that have begun and are not whole."""
    evaluation: dict[str, Summary]
    """Per arm: `s0`, `tapir-1` to `tapir-R`, `tapir` (the last round), and each rival."""
    differences: dict[str, dict[str, Difference]]
    """TAPIR minus each other arm, per part, with paired intervals."""
    arms: dict[str, list[StageStatus]]
    spending: list[Spending]
    """Calls, tokens and money by role and stage, and what the ledger saved; empty without paid oracles."""
    spent: Spending
    """The sum of `spending`."""
    currency: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"spending": to_builtins(self.spending), "spent": to_builtins(self.spent)}


def open_run(path: Path) -> Path:
    """The run directory that a user means: the directory itself, or its manifest.

    Raises:
        ResumeError: there is no run.
    """
    directory = path.parent if path.name == "manifest.json" else path
    if not (directory / "manifest.json").is_file():
        raise ResumeError(f"{path}: is no run directory (it holds no manifest.json); start one with `tapir run CONFIG`")
    return directory


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a run."""
    manifest = read_json(open_run(directory) / "manifest.json")
    if manifest is None or not _holds_settings(manifest.get("config")):
        raise ResumeError(
            f"{directory / 'manifest.json'}: is damaged; run `tapir run CONFIG` once more to write it anew"
        )
    return manifest


def _holds_settings(config: Any) -> bool:
    """Whether a manifest's configuration has the settings that are read from it here."""
    try:
        config["budget"]["currency"], config["compare"], config["name"]
        return int(config["curriculum"]["rounds"]) > 0
    except (KeyError, TypeError, ValueError):
        return False


def records(directory: Path) -> list[dict[str, Any]]:
    """The records of all whole stages, in the order they were begun."""
    found = [read_record(path) for path in sorted((directory / "stages").glob("*/stage.json"))]
    return sorted((record for record in found if record), key=lambda record: (record["round"], record["started"]))


def _stages(directory: Path) -> list[StageStatus]:
    return [
        StageStatus(
            name=record["name"],
            round=record["round"],
            rows_in=record["rows_in"],
            kept=record["kept"],
            refused=record["refused"],
            seconds=record["seconds"],
            notes=record["notes"],
        )
        for record in records(directory)
        if not record.get("is_shared")
    ]


def evaluations(directory: Path) -> Iterator[tuple[int, list[Evaluated]]]:
    """Each round's evaluated rows, round 0 for S_0."""
    for path in sorted((directory / "stages").glob("*-evaluate/stage.json")):
        record = read_record(path)
        if record is not None:
            yield record["round"], list(read_rows(path.parent / "rows.parquet", Evaluated))


def _rounds(directory: Path) -> int:
    """The rounds that the run, or arm, in `directory` is to have."""
    return int(read_manifest(directory)["config"]["curriculum"]["rounds"])


def evaluated_arms(directory: Path) -> dict[str, list[Evaluated]]:
    """The evaluated rows of every arm: S_0, each round of TAPIR, the last of them again as `tapir`, and the rivals
    that are done."""
    arms: dict[str, list[Evaluated]] = {}
    last: list[Evaluated] = []
    for round_, rows in evaluations(directory):
        if rows:
            arms[f"tapir-{round_}" if round_ else "s0"] = rows
            last = rows if round_ else []
    for path in sorted((directory / "arms").glob("*")):
        rounds = dict(evaluations(path))
        rows = rounds.get(_rounds(path), [])
        if rows:
            arms[path.name] = rows
    if last:
        arms["tapir"] = last
    return arms


def read_status(path: Path) -> Status:
    """The state and results of a run.

    Raises:
        ResumeError: `path` is no run directory.
    """
    directory = open_run(path)
    config: Mapping[str, Any] = read_manifest(directory)["config"]
    stages = _stages(directory)
    rounds = int(config["curriculum"]["rounds"])
    rounds_done = max((stage.round for stage in stages if stage.name.endswith("-evaluate")), default=0)
    arms = evaluated_arms(directory)
    spending = run_spending(directory.parent / LEDGER, config["name"])
    return Status(
        name=config["name"],
        is_finished=rounds_done >= rounds and all(name in arms or not arms for name in config["compare"]),
        rounds_done=min(rounds_done, rounds),
        rounds=rounds,
        stages=stages,
        running=sorted(path.parent.name for path in (directory / "stages").glob("*/begun.json")),
        evaluation={name: summarise(rows) for name, rows in arms.items()},
        differences=_differences(arms),
        arms={path.name: _stages(path) for path in sorted((directory / "arms").glob("*"))},
        spending=spending,
        spent=total(spending, run=config["name"]),
        currency=config["budget"]["currency"],
    )


def _differences(arms: Mapping[str, list[Evaluated]]) -> dict[str, dict[str, Difference]]:
    ours = arms.get("tapir")
    found: dict[str, dict[str, Difference]] = {}
    for name, rows in arms.items():
        if ours is None or name.startswith("tapir"):
            continue
        parts = {part: paired_difference(ours, rows, belongs) for part, belongs in PARTS.items()}
        found[name] = {part: difference for part, difference in parts.items() if difference is not None}
    return found

"""`tapir score`: the responses of any data set, scored by the judge of a configuration.

A row's response is scored alone, or against a second response of the same row, the reference: both then go into one
call, as in a run, and the row gets its MFD. Calls go through the ledger beside the runs and count against the budget
of the configuration's run, so that the same command goes on after an interruption and nothing is paid twice.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from tapir.blocking import wait_for
from tapir.config import CorpusConfig, EndpointJudgeConfig, ReferenceJudgeConfig, RunConfig
from tapir.console import view
from tapir.errors import ConfigError, DataError
from tapir.roles import Aside
from tapir.rows import Answer, Example, Judged, Refused, Row, Score, refuse
from tapir.store.step import Observer, check_refused

STAGE = "score"
SUFFIXES = (".jsonl", ".parquet")


class Scored(Row, frozen=True, kw_only=True):
    """A row of a data set with its response's score."""

    id: str
    """Digest of the instruction, as in a run; rows with the same one share it."""
    place: str
    """Where the row stands: file and line."""
    instruction: str
    response: str
    score: Score
    against: str | None = None
    """The reference that it was scored against, where there was one."""
    against_score: Score | None = None
    mfd: float | None = None
    """`against_score - score`: how far the response falls short of the reference."""
    rationale: str | None = None
    """What the judge said before its verdict."""


@dataclass(frozen=True)
class Scores:
    """What became of a data set's rows: `rows` = `scored` + the refused."""

    rows: int
    scored: int
    refused: dict[str, int]
    """Rows by the reason for which they got no score."""
    mean: float | None
    """Mean score, 1-10; None where nothing was scored."""
    mean_against: float | None
    """Mean score of the references."""
    mean_mfd: float | None
    histogram: dict[int, int]
    """Rows by score, rounded to whole points."""
    out: str
    refused_out: str | None
    """Where the refused rows are listed; None where there are none."""


@dataclass(frozen=True)
class _Item:
    """A row to be scored."""

    place: str
    row: Example
    """The response is the one to be scored."""
    against: str | None


def score_file(
    data: str | Path,
    cfg: RunConfig,
    *,
    response: str | None = None,
    against: str | None = None,
    out: Path | None = None,
    is_aside: bool = False,
) -> Scores:
    """Score the responses of the data set `data` with the judge of `cfg`, and write them, and what was refused, beside.

    `response`: the column of the response to be scored, where it is not the one that the corpus reader takes.
    `against`: the column of the reference. `out`: a .jsonl or .parquet file; default: DATA-scores.jsonl beside it.
    `is_aside`: show progress on standard error.

    Raises:
        ConfigError: the judge needs a reference and there is none, or `out` ends otherwise.
        DataError: no row can be read, or a column is nowhere.
        RunError: the judge refuses more than `max_refused_fraction` of the rows.
        OracleError: the judge cannot be asked, or the budget is spent; the same call goes on later.
    """
    target = out or _beside(str(data))
    if target.suffix not in SUFFIXES:
        raise ConfigError(f"out {target}: must end in {' or '.join(SUFFIXES)}")
    if against is None and isinstance(cfg.judge, ReferenceJudgeConfig):
        raise ConfigError(
            "judge.kind reference scores a response by its likeness to another: name the column that holds the other "
            "one with --against, or take a judge of kind endpoint"
        )
    items, unread = _read(str(data), response, against)
    with view(is_aside=is_aside) as shown:
        scored, refused = wait_for(_score(items, cfg, shown))
    return _written(scored, [*unread, *refused], len(items) + len(unread), target)


def _beside(data: str) -> Path:
    """Where the scores of a data set go by default."""
    if data.startswith("hub:"):
        return Path(f"{data.removeprefix('hub:').replace('/', '-')}-scores.jsonl")
    path = Path(data)
    name = path.name.removesuffix(".gz").rpartition(".")[0] if path.is_file() else path.resolve().name
    return path.parent / f"{name or path.name}-scores.jsonl"


def _read(data: str, response: str | None, against: str | None) -> tuple[list[_Item], list[Refused]]:
    """The rows that can be scored, and a refusal for every other.

    Raises:
        DataError: there is no row to score.
    """
    from tapir.corpus.clean import Cleaning, clean
    from tapir.corpus.raw import Raw
    from tapir.corpus.read import DataSet

    cleaning = Cleaning(CorpusConfig(path=data).max_chars)
    named = [name for name in (response, against) if name is not None]
    items: list[_Item] = []
    refused: list[Refused] = []
    found: set[str] = set()
    for raw in DataSet(data, extra=named).rows():
        if isinstance(raw, Raw):
            found.update(name for name in named if name in raw.fields)
        row = clean(_with_response(raw, response), cleaning).row
        other = raw.fields.get(against) if isinstance(raw, Raw) and against is not None else None
        if isinstance(row, Refused):
            refused.append(row)
        elif against is not None and not (isinstance(other, str) and other.strip()):
            refused.append(refuse(row, "no-reference", f"{raw.file}, {raw.place}: column {against!r} holds no text"))
        else:
            items.append(_Item(f"{raw.file}, {raw.place}", row, other))
    for name in named:
        if name not in found:
            raise DataError(f"{data}: no row has a column {name!r}; see what it holds with `tapir check {data}`")
    if not items:
        raise DataError(f"{data}: holds no row to score; see what is wrong with `tapir check {data}`")
    return items, refused


def _with_response(raw: Any, column: str | None) -> Any:
    """The raw row with the text of `column` as its one response."""
    from tapir.corpus.raw import Raw
    from tapir.corpus.shape import COLUMNS

    if column is None or not isinstance(raw, Raw):
        return raw
    own = {name: value for name, value in raw.fields.items() if name.strip().lower() not in COLUMNS["response"]}
    return msgspec.structs.replace(raw, fields={**own, COLUMNS["response"][0]: raw.fields.get(column)})


async def _score(items: Sequence[_Item], cfg: RunConfig, shown: Observer) -> tuple[list[Scored], list[Refused]]:
    """The judge's verdicts, in the order of `items`.

    Raises:
        RunError: the judge refuses too many rows.
    """
    from tapir.build import open_oracles
    from tapir.oracles.money import at_stage

    scored: list[Scored] = []
    refused: list[Refused] = []
    shown.started(STAGE, len(items))
    with at_stage(STAGE):
        async with open_oracles(cfg, shown.said) as oracles:
            verdicts = await _verdicts(cfg, oracles, items)
            async for verdict in verdicts:
                if isinstance(verdict, Refused):
                    refused.append(verdict)
                    check_refused(STAGE, refused, len(items), cfg.max_refused_fraction)
                else:
                    scored.append(verdict)
                shown.advanced(STAGE, len(scored) + len(refused), len(items), len(refused), "")
    return scored, refused


async def _verdicts(cfg: RunConfig, oracles: Any, items: Sequence[_Item]) -> AsyncIterator[Scored | Refused]:
    """The stream of verdicts: a chat model sees a response alone in the form made for it, else the judge sees two."""
    if items[0].against is None and isinstance(cfg.judge, EndpointJudgeConfig):
        return _alone(items, cfg.judge, await oracles.open(cfg.judge.endpoint, "judge"))
    from tapir.build import build_judge

    return _in_pairs(items, await build_judge(cfg, oracles))


async def _alone(items: Sequence[_Item], judge: EndpointJudgeConfig, oracle: Any) -> AsyncIterator[Scored | Refused]:
    from tapir.oracles.asking import Asker, flow

    asker = Asker(oracle, judge.endpoint, max_asks=judge.max_asks)
    async with flow(partial(_ask, asker), items, asker.ahead) as verdicts:
        async for verdict in verdicts:
            yield verdict


async def _ask(asker: Any, item: _Item) -> Scored | Refused:
    """A chat model's score of one response."""
    from tapir.oracles.base import Unanswered
    from tapir.prompts import JUDGE_SINGLE, Piece, Unreadable, conversation, parse_score

    data = {"request": conversation(item.row.turns), "answer": [Piece("ANSWER", item.row.response)]}
    try:
        verdict = (await asker.ask(JUDGE_SINGLE, parse_score, data)).value
    except (Unanswered, Unreadable) as error:
        reason = error.reason if isinstance(error, Unanswered) else "unreadable-verdict"
        return refuse(item.row, reason, f"{item.place}: {error}")
    return _scored(item, verdict.score, rationale=verdict.rationale)


async def _in_pairs(items: Sequence[_Item], judge: Any) -> AsyncIterator[Scored | Refused]:
    """The judge's verdicts on response and reference; a judge that needs none gets the response twice.

    The judge joins by id, and two rows may have the same instruction: each gets an id of its own.
    """
    by_id = {f"{number}-{item.row.id}": item for number, item in enumerate(items)}
    references = [
        msgspec.structs.replace(item.row, id=id_, response=item.against or item.row.response)
        for id_, item in by_id.items()
    ]

    async def answers() -> AsyncIterator[Answer]:
        for id_, item in by_id.items():
            yield Answer(id=id_, response=item.row.response, finish="stop", tokens=0)

    async for verdict in judge.score(Aside(STAGE), references, answers()):
        item = by_id[verdict.id]
        if isinstance(verdict, Judged):
            yield _scored(item, verdict.student_score, verdict.teacher_score, verdict.rationale)
        else:
            yield _under_own_id(verdict, item)


def _under_own_id(verdict: Refused, item: _Item) -> Refused:
    """The refusal under the row's own id and with its place."""
    return msgspec.structs.replace(verdict, id=item.row.id, detail=f"{item.place}: {verdict.detail}")


def _scored(item: _Item, score: float, reference: float | None = None, rationale: str | None = None) -> Scored:
    reference = reference if item.against is not None else None
    return Scored(
        id=item.row.id,
        place=item.place,
        instruction=item.row.instruction,
        response=item.row.response,
        score=score,
        against=item.against,
        against_score=reference,
        mfd=None if reference is None else reference - score,
        rationale=rationale,
    )


def _written(scored: Sequence[Scored], refused: Sequence[Refused], rows: int, out: Path) -> Scores:
    """Write both files, and say what is in them."""
    from tapir.export import write_whole
    from tapir.store.files import write_rows

    losses = out.with_name(f"{out.stem}-refused.jsonl")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".parquet":
            write_rows(out, Scored, scored)
        else:
            write_whole(out, _lines(scored))
        losses.unlink(missing_ok=True)
        if refused:
            write_whole(losses, _lines(refused))
    except OSError as error:
        raise DataError(
            f"{out}: cannot be written ({error.strerror or error}); name another file with --out"
        ) from error
    return Scores(
        rows=rows,
        scored=len(scored),
        refused=dict(Counter(row.reason for row in refused).most_common()),
        mean=_mean([row.score for row in scored]),
        mean_against=_mean([row.against_score for row in scored if row.against_score is not None]),
        mean_mfd=_mean([row.mfd for row in scored if row.mfd is not None]),
        histogram=_histogram(scored),
        out=str(out),
        refused_out=str(losses) if refused else None,
    )


def _lines(rows: Sequence[Row]) -> Iterator[bytes]:
    for row in rows:
        yield msgspec.json.encode(row) + b"\n"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _histogram(scored: Sequence[Scored]) -> dict[int, int]:
    counts = Counter(int(row.score + 0.5) for row in scored)
    return {points: counts[points] for points in range(1, 11)}


def scores_text(scores: Scores) -> str:
    """What became of the rows, for a terminal."""
    lost = "".join(f", {count:,} refused ({reason})" for reason, count in scores.refused.items())
    lines = [f"{scores.rows:,} rows: {scores.scored:,} scored{lost}"]
    if scores.mean is not None:
        most = max(scores.histogram.values())
        lines += [
            f"{points:>4}{count:>9,}  {'█' * round(40 * count / most)}" for points, count in scores.histogram.items()
        ]
        against = "" if scores.mean_against is None else f", of the references {scores.mean_against:.2f}"
        mfd = "" if scores.mean_mfd is None else f", mean MFD {scores.mean_mfd:+.2f}"
        lines.append(f"mean score {scores.mean:.2f}{against}{mfd}")
    lines.append(f"written: {scores.out}")
    if scores.refused_out is not None:
        lines.append(f"refused rows: {scores.refused_out}")
    return "\n".join(lines)

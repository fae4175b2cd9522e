"""What a run will ask of its oracles, before anything is spent: calls, tokens and money per stage and role.

Tokens are counted from the data where it is at hand and guessed where it is yet to be written; every guess is a
constant below. Once calls were made, by a pilot or by the run itself, the same table is made from measured usage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tapir.config import (
    CascadeClassifierConfig,
    EndpointConfig,
    EndpointJudgeConfig,
    EndpointTeacherConfig,
    OracleClassifierConfig,
    RunConfig,
)

CHARS_PER_TOKEN = 4.0
"""Characters of a token in English text; other languages need more tokens."""
SCAFFOLD_TOKENS: Mapping[str, int] = {"judge": 350, "label": 545, "expand": 370, "refine": 310}
"""Tokens of each prompt around its data; 0 where the instruction is the prompt."""
VERDICT_TOKENS = 120
LABEL_TOKENS = 12
REFINED_TOKENS = 400
"""A refined response, unless the corpus' own are longer."""
HARD_SHARE = 0.3
"""Share of D expected to be hard, where no quantile fixes it."""
UNSURE_SHARE = 0.35
"""Share of rows that the cascade is expected to pass on, where nothing has measured it."""


@dataclass(frozen=True)
class Sizes:
    """What is known of the data."""

    rows: int
    instruction_tokens: float
    """Mean tokens of an instruction with all its turns."""
    response_tokens: float
    evaluation_items: int = 0
    seeds: int | None = None
    """Hard rows of D; None while nothing is judged."""
    unsure_share: float = UNSURE_SHARE
    """Share of rows that a cascade passes on to its chat model."""


@dataclass(frozen=True)
class Usage:
    """Mean tokens of one call of a stage."""

    input_tokens: float
    output_tokens: float
    calls: int = 0
    """Calls that this was measured over; 0 for a guess."""


@dataclass(frozen=True)
class StageQuote:
    """What one stage will ask of one role."""

    stage: str
    label: str
    """The stage's directory, and the name that its calls are booked under."""
    role: str
    rows: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float
    measured_over: int = 0
    """Calls that the tokens of one call were measured over; 0 where they are estimated from the data."""


def quote(cfg: RunConfig, sizes: Sizes, measured: Mapping[str, Usage] | None = None) -> list[StageQuote]:
    """Calls, tokens and cost of every stage that asks a paid oracle; empty for a run without one.

    `measured` replaces the guessed tokens of a call, by the stage's kind (respond, judge, label, expand, refine).
    Neither retries nor the arms to compare with are counted.
    """
    book = _Book(cfg, sizes, measured or {})
    rounds = cfg.curriculum.rounds
    new = cfg.expand.new_per_round if cfg.expand.enabled else 0
    items = sizes.evaluation_items
    book.add(0, "answer", "answer", "student", sizes.rows)
    if cfg.difficulty.reference == "teacher":
        book.add(0, "respond", "respond", "teacher", sizes.rows)
    book.add(0, "judge", "judge", "judge", sizes.rows)
    book.add(0, "label", "label", "classifier", sizes.rows)
    if cfg.refine.enabled:
        book.add(0, "refine", "refine", "teacher", _seeds(cfg, sizes))
    book.add(0, "evaluate", "answer", "student", items)
    book.add(0, "evaluate", "judge", "judge", items)
    for r in range(1, rounds + 1):
        book.add(r, "expand", "expand", "teacher", new)
        if cfg.expand.check_task:
            book.add(r, "label", "label", "classifier", new)
        book.add(r, "refine", "refine" if cfg.refine.enabled else "respond", "teacher", new)
        if cfg.difficulty.rescore_new:
            book.add(r, "answer-new", "answer", "student", new)
            book.add(r, "judge-new", "judge", "judge", new)
        if cfg.evaluation.every_round or r == rounds:
            book.add(r, "evaluate", "answer", "student", items)
            book.add(r, "evaluate", "judge", "judge", items)
    return book.lines


def sum_of(lines: Sequence[StageQuote]) -> StageQuote:
    """The sum of all stages' quotes."""
    return StageQuote(
        stage="total",
        label="",
        role="",
        rows=sum(line.rows for line in lines),
        calls=sum(line.calls for line in lines),
        input_tokens=sum(line.input_tokens for line in lines),
        output_tokens=sum(line.output_tokens for line in lines),
        cost=sum(line.cost for line in lines),
    )


def _seeds(cfg: RunConfig, sizes: Sizes) -> int:
    """Rows of D that are, or are expected to be, hard."""
    if sizes.seeds is not None:
        return sizes.seeds
    share = cfg.difficulty.quantile if cfg.difficulty.quantile is not None else HARD_SHARE
    return sizes.rows if cfg.difficulty.select == "all" else round(share * sizes.rows)


class _Book:
    """Collects the stages that cost something."""

    def __init__(self, cfg: RunConfig, sizes: Sizes, measured: Mapping[str, Usage]) -> None:
        self._cfg = cfg
        self._sizes = sizes
        self._measured = measured
        self._endpoints = endpoints(cfg)
        self.lines: list[StageQuote] = []

    def add(self, round_: int, name: str, kind: str, role: str, rows: int) -> None:
        """Add a stage, unless its role is filled without an endpoint or it has no rows."""
        endpoint = self._endpoints.get(role)
        if endpoint is None or rows == 0:
            return
        calls = self._calls(kind, rows)
        usage = self._measured.get(kind) or self._guess(kind)
        tokens_in, tokens_out = round(calls * usage.input_tokens), round(calls * usage.output_tokens)
        price = endpoint.price
        cost = (tokens_in * price.input_per_million + tokens_out * price.output_per_million) / 1e6
        self.lines.append(
            StageQuote(
                stage=f"round {round_}: {name}" if round_ else name,
                label=f"{round_:02d}-{name}",
                role=role,
                rows=rows,
                calls=calls,
                input_tokens=tokens_in,
                output_tokens=tokens_out,
                cost=cost * _discount(endpoint),
                measured_over=usage.calls,
            )
        )

    def _calls(self, kind: str, rows: int) -> int:
        judge, classifier = self._cfg.judge, self._cfg.tasks.classifier
        if kind == "expand":
            return -(-rows // self._cfg.expand.per_prompt)
        if kind == "judge" and isinstance(judge, EndpointJudgeConfig):
            return rows * (2 if judge.swap else 1) * (2 if judge.mode == "single" else 1)
        if kind == "label" and isinstance(classifier, CascadeClassifierConfig):
            return round(rows * self._sizes.unsure_share)
        return rows

    def _guess(self, kind: str) -> Usage:
        """Tokens of one call, from the data's own lengths."""
        x, y = self._sizes.instruction_tokens, self._sizes.response_tokens
        scaffold = SCAFFOLD_TOKENS.get(kind, 0)
        written = max(y, REFINED_TOKENS)
        match kind:
            case "judge":
                single = isinstance(self._cfg.judge, EndpointJudgeConfig) and self._cfg.judge.mode == "single"
                return Usage(scaffold + x + (1 if single else 2) * y, VERDICT_TOKENS)
            case "label":
                return Usage(scaffold + x, LABEL_TOKENS)
            case "expand":
                shown, asked = self._cfg.draw_size
                return Usage(scaffold + shown * x, asked * x * 1.1)
            case "refine":
                return Usage(scaffold + x + y, written)
            case "answer":
                return Usage(x, y)
            case _:
                return Usage(scaffold + x, written)


def endpoints(cfg: RunConfig) -> dict[str, EndpointConfig]:
    """The endpoint of each role that has one."""
    found: dict[str, EndpointConfig] = {}
    if cfg.student.engine == "endpoint" and cfg.student.endpoint is not None:
        found["student"] = cfg.student.endpoint
    if isinstance(cfg.teacher, EndpointTeacherConfig):
        found["teacher"] = cfg.teacher.endpoint
    if isinstance(cfg.judge, EndpointJudgeConfig):
        found["judge"] = cfg.judge.endpoint
    if isinstance(cfg.tasks.classifier, OracleClassifierConfig | CascadeClassifierConfig):
        found["classifier"] = cfg.tasks.classifier.endpoint
    return found


def _discount(endpoint: EndpointConfig) -> float:
    return endpoint.price.batch_factor if endpoint.batch else 1.0

"""`tapir check`: what is wrong, and what a run would cost, before anything is spent."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.markup import escape

from tapir.blocking import wait_for
from tapir.build import build_corpus, build_student, evaluation_set
from tapir.config import CascadeClassifierConfig, CorpusConfig, RunConfig
from tapir.errors import ConfigError, DataError, StudentError
from tapir.held_out import decontaminate, hold_out
from tapir.measured import measured_usage
from tapir.oracles.keys import is_local, read_key
from tapir.oracles.ledger_file import LEDGER
from tapir.quote import CHARS_PER_TOKEN, UNSURE_SHARE, Sizes, StageQuote, endpoints, quote, sum_of
from tapir.roles import Aside
from tapir.rows import Example, Refused
from tapir.tables import print_json, quote_table

EXAMPLES = 2


@dataclass(frozen=True)
class CascadeReport:
    """What a cascade of task classifiers would pass on to its chat model."""

    margin: float
    share: float
    """Share of the rows whose local margin is below `margin`."""
    sampled: int
    """Rows of D that it was measured on; 0 for a guess, because the local classifier cannot be loaded."""
    calls: int
    cost: float


@dataclass(frozen=True)
class ConfigReport:
    """What a configuration would do."""

    name: str
    rows_read: int
    rows: int
    """Rows of D: accepted, not held out, not contaminated."""
    refused: dict[str, int]
    refused_examples: dict[str, list[str]]
    held_out: int
    evaluation_items: int
    quotes: list[StageQuote]
    cascade: CascadeReport | None
    preflight: dict[str, Any] | None
    problems: list[str]
    """What would stop the run."""
    warnings: list[str]
    currency: str

    @property
    def exit_code(self) -> int:
        """2 where something would stop the run."""
        return 2 if self.problems else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the totals."""
        return {**asdict(self), "total": asdict(sum_of(self.quotes)), "is_ready": not self.problems}

    def show(self, *, as_json: bool) -> None:
        """Print the report."""
        if as_json:
            print_json(self.to_dict())
            return
        console = Console(highlight=False)
        console.print(f"{self.name}: {self.rows:,} rows of D out of {self.rows_read:,} read")
        for reason, count in sorted(self.refused.items(), key=lambda item: -item[1]):
            console.print(f"  refused {count:,} {reason}: {escape(self.refused_examples[reason][0])}", style="dim")
        console.print(
            f"evaluation: {self.evaluation_items:,} items, {self.held_out:,} of them held out from the corpus"
        )
        self._show_quotes(console)
        self._show_preflight(console)
        for text in self.warnings:
            console.print(f"warning: {escape(text)}", style="yellow")
        for text in self.problems:
            console.print(f"error: {escape(text)}", style="red")
        console.print("nothing was spent" + ("" if self.problems else "; the configuration is ready to run"))

    def _show_quotes(self, console: Console) -> None:
        if not self.quotes:
            console.print("no stage asks a paid oracle: 0 calls, 0 tokens")
            return
        console.print(quote_table(self.quotes, self.currency))
        is_measured = any(line.measured_over for line in self.quotes)
        how = "measured on this run's own calls where it says so" if is_measured else "estimates"
        console.print(f"tokens are {how}; retries and rivals are not counted", style="dim")
        if self.cascade is not None:
            console.print(_cascade_line(self.cascade, self.currency))

    def _show_preflight(self, console: Console) -> None:
        if self.preflight is None:
            return
        found = self.preflight
        console.print(
            f"pre-flight: {found['rows']:,} rows, {found['truncated']} truncated at {found['max_length']} tokens"
        )
        console.print("one row as the student sees it; trained on is what stands between ⟦ and ⟧:", style="dim")
        console.print(escape(found["example"]), style="dim")


def check_config(cfg: RunConfig) -> ConfigReport:
    """Validate a configuration against its data, its student and its keys, and quote it. Spends nothing.

    Raises:
        TapirError: the data cannot be read at all.
    """
    return wait_for(_check(cfg))


@dataclass(frozen=True)
class Data:
    """The data of a run, as it will be read."""

    corpus: list[Example]
    """D: accepted, not held out, not contaminated."""
    held_out: list[Example]
    items: list[Example]
    """Evaluation items, but for those held out."""
    refused: list[Refused]
    read: int
    problems: list[str]
    unsure_share: float
    """Share of D that a cascade passes on to its chat model."""
    unsure_sampled: int
    """Rows that this was measured on; 0 where it is a guess, or there is no cascade."""

    @property
    def sizes(self) -> Sizes:
        """What the quote needs to know of it."""
        rows = max(1, len(self.corpus))
        asked = sum(len(turn.content) for row in self.corpus for turn in row.turns)
        answered = sum(len(row.response) for row in self.corpus)
        items = len(self.items) + len(self.held_out)
        return Sizes(
            rows=len(self.corpus),
            instruction_tokens=asked / rows / CHARS_PER_TOKEN,
            response_tokens=answered / rows / CHARS_PER_TOKEN,
            evaluation_items=items,
            unsure_share=self.unsure_share,
        )


async def read_data(cfg: RunConfig) -> Data:
    """Corpus and evaluation sets.

    Raises:
        TapirError: the corpus cannot be read at all.
    """
    accepted: list[Example] = []
    refused: list[Refused] = []
    async for row in build_corpus(cfg.corpus, cfg.seed).read(Aside("corpus")):
        if isinstance(row, Refused):
            refused.append(row)
        else:
            accepted.append(row)
    read = len(accepted) + len(refused)
    problems: list[str] = []
    items: list[Example] = []
    for one in cfg.evaluation.sets:
        try:
            items += [item.example for item in (await evaluation_set(one, cfg)).items]
        except DataError as error:
            problems.append(str(error))
    corpus, held = hold_out(accepted, cfg.evaluation.held_out, cfg.seed)
    corpus, contaminated = decontaminate(corpus, [row.instruction for row in [*items, *held]], cfg.evaluation)
    refused += contaminated
    if not corpus:
        problems.append(f"corpus.path {cfg.corpus.path}: no row is left to train on")
    unsure, sampled = UNSURE_SHARE, 0
    if corpus and isinstance(cfg.tasks.classifier, CascadeClassifierConfig):
        from tapir.classifiers.cascade import sampled_share

        try:
            unsure, sampled = await sampled_share(cfg.tasks.classifier, corpus, cfg.seed)
        except ConfigError as error:
            problems.append(f"tasks.classifier.local: {error}")
    return Data(corpus, held, items, refused, read, problems, unsure, sampled)


async def _check(cfg: RunConfig) -> ConfigReport:
    data = await read_data(cfg)
    sizes = data.sizes
    preflight, found = _preflight(cfg, data.corpus)
    quotes = quote(cfg, sizes, measured_usage(cfg, cfg.runs / LEDGER))
    return ConfigReport(
        name=cfg.name,
        rows_read=data.read,
        rows=len(data.corpus),
        refused=dict(Counter(row.reason for row in data.refused)),
        refused_examples=_examples(data.refused),
        held_out=len(data.held_out),
        evaluation_items=sizes.evaluation_items,
        quotes=quotes,
        cascade=_cascade(cfg, data, quotes),
        preflight=preflight,
        problems=[*data.problems, *found, *_key_problems(cfg)],
        warnings=_warnings(cfg, data.corpus, sizes.evaluation_items, quotes),
        currency=cfg.budget.currency,
    )


def _cascade(cfg: RunConfig, data: Data, quotes: Sequence[StageQuote]) -> CascadeReport | None:
    if not isinstance(cfg.tasks.classifier, CascadeClassifierConfig):
        return None
    lines = [line for line in quotes if line.role == "classifier"]
    return CascadeReport(
        margin=cfg.tasks.classifier.margin,
        share=data.unsure_share,
        sampled=data.unsure_sampled,
        calls=sum(line.calls for line in lines),
        cost=sum(line.cost for line in lines),
    )


def _cascade_line(found: CascadeReport, currency: str) -> str:
    how = f"of {found.sampled:,} rows of D, local classifier asked" if found.sampled else "of D, a guess"
    return (
        f"cascade: {found.share:.1%} ({how}) are below the margin {found.margin:g} and go on to the chat model: "
        f"{found.calls:,} calls in all, {found.cost:,.2f} {currency}"
    )


def _examples(refused: Sequence[Refused]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in refused:
        shown = found.setdefault(row.reason, [])
        if len(shown) < EXAMPLES:
            shown.append(f"{row.detail}: {row.text!r}")
    return found


def _preflight(cfg: RunConfig, corpus: Sequence[Example]) -> tuple[dict[str, Any] | None, list[str]]:
    """The student's pre-flight of the corpus, and what is wrong with it."""
    if not corpus:
        return None, []
    try:
        student = build_student(cfg)
        report = student.preflight(corpus)
        report.check()
    except StudentError as error:
        return None, [str(error)]
    return report.summary(), []


def _key_problems(cfg: RunConfig) -> list[str]:
    found = []
    for role, endpoint in endpoints(cfg).items():
        try:
            read_key(endpoint)
        except ConfigError as error:
            found.append(f"{role}.endpoint: {error}")
    return found


def _warnings(cfg: RunConfig, corpus: Sequence[Example], items: int, quotes: Sequence[StageQuote]) -> list[str]:
    found = []
    for role, endpoint in endpoints(cfg).items():
        price = endpoint.price
        host = urlsplit(endpoint.base_url).hostname or ""
        if not is_local(host) and not (price.input_per_million or price.output_per_million):
            found.append(f"{role}.endpoint.price is not set: the cost of its calls is counted as 0")
    total = sum(line.cost for line in quotes)
    if cfg.budget.max_cost is not None and total > cfg.budget.max_cost:
        found.append(
            f"the quote of {total:,.2f} is above budget.max_cost {cfg.budget.max_cost:g}: the run will pause there"
        )
    if not items:
        found.append("no evaluation set: the run will not say how good the student gets; set evaluation.held_out")
    if len(corpus) < cfg.expand.seeds_per_prompt:
        found.append(f"D has only {len(corpus)} rows")
    return found


@dataclass(frozen=True)
class DataReport:
    """What a data file holds."""

    report: Any

    @property
    def exit_code(self) -> int:
        """2 where no row can be used."""
        return 0 if self.report.accepted else 2

    def show(self, *, as_json: bool) -> None:
        """Print the report."""
        if as_json:
            print(self.report.to_json())
            return
        from tapir.corpus.render import show

        show(self.report, Console(highlight=False))


def check_data(path: Path | str, overrides: Sequence[str] = ()) -> DataReport:
    """Read a data file as a run would: rows accepted, repaired and refused, with reasons and examples.

    `overrides` are settings of the corpus section, as `max_chars=2000`.

    Raises:
        DataError: the file cannot be read as instructions and responses.
    """
    from tapir.config import parse_section
    from tapir.corpus.report import inspect

    return DataReport(inspect(parse_section(CorpusConfig, {"path": str(path)}, overrides, str(path))))

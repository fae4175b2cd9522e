"""`tapir run --pilot N`: a few rows through the paid calls, and the quote made again from what they took.

The student is not trained yet: the corpus' own response stands in for its answer. So the teacher's answers, the labels,
and the refined responses of the rows that turn out hard are the run's own calls, which it finds in the ledger; the
judge's and those for new instructions are made for the measurement alone.
"""

import random
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from msgspec import structs, to_builtins
from rich.console import Console

from tapir.balance import plan_expansion, target_shares, task_quotas
from tapir.blocking import wait_for
from tapir.build import build_classifier, build_judge, build_teacher, open_oracles
from tapir.check import read_data
from tapir.config import RunConfig
from tapir.errors import RunError
from tapir.measured import PILOT, measured_usage
from tapir.oracles.ledger_file import LEDGER, run_spending
from tapir.oracles.money import Spending, at_stage, total
from tapir.quote import StageQuote, endpoints, quote
from tapir.roles import Aside, Classifier, Judge, Teacher
from tapir.rows import Answer, Draw, Example, Label, Labelled, Lesson, Refused, Row, lesson, with_tasks
from tapir.store.lock import Lock
from tapir.tables import quote_table

R = TypeVar("R", bound=Row)
Say = Callable[[str], None]


@dataclass(frozen=True)
class PilotReport:
    """What a pilot has measured."""

    rows: int
    estimated: list[StageQuote]
    """The quote by the lengths of the data alone; empty where no stage asks a paid oracle."""
    measured: list[StageQuote]
    """The same by what the calls took."""
    spent: Spending
    """What the pilots of this run have spent, this one and earlier ones."""
    refused: dict[str, int]
    currency: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"spent": to_builtins(self.spent)}

    def show(self, command: str) -> None:
        """Print the quote anew, and that `command` goes on."""
        if not self.estimated:
            print(f"nothing to pilot: no stage of this configuration asks a paid oracle. To run it: {command}")
            return
        Console(highlight=False).print(quote_table(self.measured, self.currency, self.estimated))
        spent = self.spent
        print(
            f"spent on pilots of this run: {spent.calls:,} calls, {spent.input_tokens:,} + {spent.output_tokens:,} "
            f"tokens, {spent.cost:,.4f} {self.currency}; answers, labels and refined responses stay paid for"
        )
        print(f"to go on: {command}")


def run_pilot(cfg: RunConfig, rows: int, say: Say = print) -> PilotReport:
    """Send `rows` rows of D through every call that the configuration pays for, within its budget.

    Raises:
        TapirError: the data cannot be read, an oracle cannot be asked or never replies, the budget is spent, or the
            run is at work.
    """
    if not endpoints(cfg):
        return PilotReport(0, [], [], Spending(run=cfg.name, role="", stage=""), {}, cfg.budget.currency)
    return wait_for(_pilot(cfg, rows, say))


async def _pilot(cfg: RunConfig, count: int, say: Say) -> PilotReport:
    data = await read_data(cfg)
    sample = random.Random(f"pilot:{cfg.seed}").sample(data.corpus, min(count, len(data.corpus)))
    with Lock(cfg.directory / ".lock"):
        async with open_oracles(cfg, say) as oracles:
            classifier = await build_classifier(cfg, oracles)
            teacher = await build_teacher(cfg, oracles, classifier)
            work = _Pilot(cfg, teacher, await build_judge(cfg, oracles), classifier, say)
            await work.run(sample)
    ledger = cfg.runs / LEDGER
    usage = measured_usage(cfg, ledger, enough=1)
    if not usage:
        raise RunError("no call of the pilot got a reply (see above); mend the cause, then run the same command again")
    return PilotReport(
        rows=len(sample),
        estimated=quote(cfg, data.sizes),
        measured=quote(cfg, data.sizes, usage),
        spent=total(one for one in run_spending(ledger, cfg.name) if one.stage.startswith(f"{PILOT}-")),
        refused=dict(work.refused),
        currency=cfg.budget.currency,
    )


class _Pilot:
    """The loop's calls on a sample, one kind after the other."""

    def __init__(self, cfg: RunConfig, teacher: Teacher, judge: Judge, classifier: Classifier, say: Say) -> None:
        self._cfg = cfg
        self._teacher = teacher
        self._judge = judge
        self._classifier = classifier
        self._say = say
        self._paid = endpoints(cfg)
        self.refused: Counter[str] = Counter()

    async def run(self, sample: Sequence[Example]) -> None:
        """Every verb that the configuration pays for, and those that it takes to get there."""
        cfg = self._cfg
        references: Sequence[Example] = sample
        if cfg.difficulty.reference == "teacher" and "teacher" in self._paid:
            references = await self._all("respond", self._teacher.respond(Aside("respond"), sample))
        own = {row.id: row.response for row in sample}
        answers = [Answer(id=row.id, response=own[row.id], finish="stop", tokens=0) for row in references]
        judged = await self._all("judge", self._judge.score(Aside("judge"), references, _stream(answers)))
        labels: list[Label] = await self._all("label", self._classifier.label(Aside("label"), sample))
        if "teacher" in self._paid:
            await self._teach([structs.replace(row, response=own[row.id]) for row in with_tasks(judged, labels)])

    async def _teach(self, rows: Sequence[Labelled]) -> None:
        """Refine these rows as if they were hard, then ask for as many new instructions."""
        cfg = self._cfg
        lessons: list[Lesson] = [lesson(row, row.response, row.task, is_hard=True) for row in rows]
        if cfg.refine.enabled:
            lessons = await self._all("refine", self._teacher.refine(Aside("refine"), rows))
        if cfg.expand.enabled and lessons:
            await self._all("expand", self._teacher.expand(Aside("expand"), self._draws(lessons), ()))

    def _draws(self, lessons: Sequence[Lesson]) -> list[Draw]:
        """Draws as large as most of the run's are, for about as many instructions as there are lessons."""
        shown, per_draw = self._cfg.draw_size
        shares = target_shares(lessons, self._cfg.tasks.target, balance=self._cfg.tasks.balance)
        draws = task_quotas(shares.shares, -(-len(lessons) // per_draw))
        quotas = {task: per_draw * number for task, number in draws.items()}
        return plan_expansion(lessons, quotas, round_=1, shown=shown, per_draw=per_draw, seed=self._cfg.seed)

    async def _all(self, name: str, rows: AsyncIterator[R | Refused]) -> list[R]:
        """The rows kept of one verb; says what came of it."""
        kept: list[R] = []
        refused: list[Refused] = []
        with at_stage(f"{PILOT}-{name}"):
            async for row in rows:
                if isinstance(row, Refused):
                    refused.append(row)
                else:
                    kept.append(row)
        lost = Counter(row.reason for row in refused)
        self.refused += lost
        why = ", ".join(f"{count} {reason}" for reason, count in lost.most_common())
        last = f", {len(refused)} refused ({why}), the last: {refused[-1].detail}" if refused else ""
        self._say(f"{PILOT}, {name}: {len(kept)} rows{last}")
        return kept


async def _stream(answers: Sequence[Answer]) -> AsyncIterable[Answer]:
    for answer in answers:
        yield answer

"""A run directory made by hand, quickly and without models: the embedded world's texts, a student that is played."""

import asyncio
import json
import random
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tapir.balance import plan_expansion, renormalise, task_quotas
from tapir.config import RunConfig, parse_config
from tapir.curriculum import alpha, mix
from tapir.difficulty import select_seeds
from tapir.errors import DataError
from tapir.rows import (
    Answer,
    Checkpoint,
    Draft,
    Evaluated,
    Example,
    Judged,
    Label,
    Labelled,
    Lesson,
    Lineage,
    Refused,
    draft,
    lesson,
    refuse,
    user_turn,
    with_tasks,
)
from tapir.store import Round, RunStore
from tapir.tasks import Task
from tapir.world.corpus import balanced_test_set
from tapir.world.families import Item, like, solve
from tapir.world.judging import score
from tapir.world.roles import corpus_rows

CURVE_STEPS = 60
LIFT = {"s0": 0.0, "sft": 0.04, "distillation": 0.16, "expansion": 0.24, "tapir": 0.3}
"""How far each arm moves the chance of a right answer over all rounds."""


NOBODY = 2**22 + 1
"""A process id that Linux gives to no process by default."""


def memory_config(runs: Path) -> RunConfig:
    """Two rounds of roles in memory."""
    return parse_config(
        {
            "name": "memory",
            "runs": str(runs),
            "corpus": {"path": "world"},
            "student": {"model": "memory"},
            "teacher": {"kind": "world"},
            "judge": {"kind": "world"},
            "tasks": {"classifier": {"kind": "world"}, "target": {"Math": 0.5, "Code Generation": 0.4, "Law": 0.1}},
            "expand": {"new_per_round": 18, "near_duplicates": {"similarity": 1.0}},
            "curriculum": {"rounds": 2, "rows_per_round": 60, "alpha": 0.5, "alpha_step": 0.25},
        },
        "test",
    )


def leave(run: Path) -> None:
    """Let the run look as if its process had ended."""
    for lock in run.rglob(".lock"):
        lock.write_text(f"{NOBODY}\n", encoding="ascii")


class Quiet:
    """An observer that shows nothing."""

    def started(self, stage: str, total: float | None) -> None: ...

    def advanced(self, stage: str, done: float, total: float | None, refused: int, text: str) -> None: ...

    def finished(self, stage: str, record: dict[str, Any], *, is_replayed: bool) -> None: ...

    def said(self, text: str) -> None: ...


@dataclass
class Played:
    """A student whose skill is a number, and the trainer that raises it."""

    start: float = 2.4

    def identity(self, verb: str) -> dict[str, Any]:
        return {"played": True}

    async def train(self, stage: Any, lessons: Sequence[Any], start: Checkpoint | None = None) -> Checkpoint:
        home = stage.work / "student"
        home.mkdir(parents=True, exist_ok=True)
        rng = random.Random(stage.name)
        top = self.start if start is None else 0.9
        loss = [top * 0.97**step + 0.25 + rng.uniform(-0.06, 0.06) for step in range(CURVE_STEPS)]
        stage.note(
            curve={
                "steps": list(range(1, CURVE_STEPS + 1)),
                "loss": loss,
                "learning_rate": [1e-3 * (1 - step / CURVE_STEPS) for step in range(CURVE_STEPS)],
                "gradient_norm": [1.0] * CURVE_STEPS,
                "tokens": [4000 * (step + 1) for step in range(CURVE_STEPS)],
            }
        )
        return Checkpoint(path=str(home), digest=stage.name.replace(" ", "-"))


def play(item: Item, lift: float, rng: random.Random) -> str:
    """A student's response: right with a chance that falls with difficulty."""
    chance = max(0.02, min(0.98, 1.02 - 0.2 * item.difficulty + lift))
    if item.family == "know":
        chance = max(0.02, 0.8 - 0.25 * lift)
    if rng.random() < chance:
        return item.refined if lift > 0.1 and rng.random() < 0.7 else item.direct
    wrong = list(item.direct)
    rng.shuffle(wrong)
    return "".join(wrong) + rng.choice(["", "0", " ?"])


@dataclass(frozen=True)
class Sample:
    """How much of a run to make."""

    rows: int = 600
    rounds: int = 3
    done: int = 3
    """Rounds that are whole."""
    new: int = 120
    arms: tuple[str, ...] = ("expansion", "sft", "distillation")
    is_evaluated: bool = True
    per_cell: int = 4
    planted: tuple[str, ...] = ()
    """Texts of instructions that a test looks for; appended to the corpus, badly answered."""


def config(runs: Path, sample: Sample, **changes: Any) -> RunConfig:
    """The configuration of the made run."""
    tree: dict[str, Any] = {
        "name": "sample",
        "runs": str(runs),
        "corpus": {"path": "world", "near_duplicates": None},
        "student": {"model": "world"},
        "teacher": {"kind": "world"},
        "judge": {"kind": "world"},
        "tasks": {
            "classifier": {"kind": "world"},
            "target": {
                "Math": 0.18,
                "Reasoning": 0.18,
                "Code Generation": 0.18,
                "Code Debug": 0.12,
                "Complex Format": 0.10,
                "Physics": 0.10,
                "Common-Sense": 0.08,
                "Grammar": 0.06,
                "Law": 0.02,
            },
        },
        "expand": {"new_per_round": sample.new},
        "curriculum": {"rounds": sample.rounds, "rows_per_round": 300},
        "evaluation": {"sets": [{"name": "world", "path": "world"}] if sample.is_evaluated else []},
        "compare": list(sample.arms),
    }
    return RunConfig.model_validate({**tree, **changes})


def made(work: Coroutine[Any, Any, Path]) -> Path:
    """The result of asynchronous work, also where this thread has a loop running (a browser's driver, say)."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


async def make_run(runs: Path, sample: Sample = Sample(), **changes: Any) -> Path:
    """Make the run directory; returns it."""
    cfg = config(runs, sample, **changes)
    async with RunStore(cfg.directory, Quiet()) as run:
        run.write_manifest(cfg.model_dump(mode="json"), {"python": "3.11", "torch": "2.13.0", "pyarrow": "20.0"})
        lessons, easy = await _prepare(run, cfg, sample)
        for r in range(1, sample.done + 1):
            lessons = await _round(run, cfg, sample, r, lessons, easy)
    if sample.is_evaluated and sample.done:
        for arm in sample.arms:
            async with RunStore(cfg.directory / "arms" / arm, Quiet()) as other:
                other.write_manifest(cfg.model_dump(mode="json"), {})
                _evaluate(other.round(sample.rounds), sample, LIFT[arm], seed=99)
    return cfg.directory


async def _prepare(run: RunStore, cfg: RunConfig, sample: Sample) -> tuple[list[Lesson], list[Lesson]]:
    now = run.round(0)
    rows = corpus_rows(0, sample.rows)
    planted = [
        Example(id=f"planted{i:017d}", turns=user_turn(text), response="4", lineage=Lineage(source="planted.jsonl"))
        for i, text in enumerate(sample.planted)
    ]
    refused = [
        refuse(row, reason, f"{reason} of row {i}")
        for i, (row, reason) in enumerate(
            zip(rows[:21], ["duplicate"] * 14 + ["empty-response"] * 4 + ["too-long"] * 3, strict=True)
        )
    ]
    rows = [*planted, *rows]
    now.keep("corpus", Example, rows, refused)
    dirty = [refuse(row, "contaminated", "shares '3 + 4' with an evaluation item") for row in rows[-5:]]
    rows = rows[:-5]
    now.keep("decontaminate", Example, rows, dirty)
    await now.train("warm-up", Played().train, rows)
    judged = [_judged(row, index) for index, row in enumerate(rows)]
    answers = [Answer(id=row.id, response=row.student_response, finish="stop", tokens=9) for row in judged]
    now.keep("answer", Answer, answers)
    now.keep(
        "respond", Example, [Example(id=r.id, turns=r.turns, response=r.response, lineage=r.lineage) for r in judged]
    )
    lost = [refuse(row, "unreadable-verdict", "no score after 3 asks") for row in rows[7:10]]
    judged = [row for index, row in enumerate(judged) if index not in range(7, 10)]
    now.keep("judge", Judged, judged, lost)
    labels = [Label(id=row.id, task=_task(row), score=0.9, margin=0.6) for row in rows]
    now.keep("label", Label, labels)
    selection = select_seeds(with_tasks(judged, labels), cfg.difficulty, cfg.seed)
    now.keep("select", Labelled, selection.seeds, threshold=selection.threshold, notes=selection.notes)
    seeds = [lesson(row, _refined(row), row.task, is_hard=True) for row in selection.seeds]
    now.keep("refine", Lesson, seeds)
    if sample.is_evaluated:
        _evaluate(now, sample, 0.0, seed=0)
    return seeds, [lesson(row, row.response, row.task, is_hard=False) for row in selection.easy]


def _item(row: Example | Draft) -> Item | None:
    """The item of the world that a row is; None for a planted text."""
    try:
        return solve(row.instruction)
    except DataError:
        return None


def _task(row: Example) -> Task:
    item = _item(row)
    return item.task if item else Task.LAW


def _refined(row: Example | Draft) -> str:
    item = _item(row)
    return item.refined if item else "Worked: 2 + 2 = 4. Answer: 4"


def _judged(row: Example, index: int) -> Judged:
    """Both answers scored, in both orders; the first answer gains a little."""
    rng = random.Random(index)
    item = _item(row)
    response = play(item, 0.0, rng) if item else "no idea"
    student = score(item, response) if item else 2.0
    teacher = 10.0
    bonus = rng.choice([0.0, 0.0, 0.5])
    detail = {
        "mode": "pair",
        "calls": [
            {"first": "reference", "reference": teacher, "student": max(1.0, student - bonus), "asks": 1},
            {"first": "student", "reference": max(1.0, teacher - bonus), "student": student, "asks": 1},
        ],
        "order_effect": bonus,
        "swapped_rationale": "Seen the other way round, the verdict is the same.",
    }
    return Judged(
        id=row.id,
        turns=row.turns,
        response=_refined(row),
        lineage=row.lineage,
        student_response=response,
        teacher_score=teacher,
        student_score=student,
        rationale=f"The second answer {'is right but terse' if student >= 9 else 'does not reach the result'}.",
        judge_detail=json.dumps(detail),
    )


async def _round(
    run: RunStore, cfg: RunConfig, sample: Sample, r: int, hard: list[Lesson], easy: list[Lesson]
) -> list[Lesson]:
    now = run.round(r)
    shares = renormalise(cfg.tasks.target, [row.task for row in hard if row.task])
    quotas = task_quotas(shares.shares, sample.new)
    plan = plan_expansion(hard, quotas, round_=r, shown=1, per_draw=1, seed=r)
    drafts, seen = [], {row.instruction for row in hard}
    for draw in plan:
        rng = random.Random(draw.seed)
        seed = draw.seeds[0]
        item = _item(seed)
        new = like(item, rng).instruction if item else f"{seed.instruction} {rng.randint(1, 999)}"
        lineage = Lineage(source="world", round=r, parents=(seed.id,), teacher="world", prompt="ab" * 12)
        drafts.append(draft(user_turn(new), draw.task, lineage))
    now.keep(
        "expand", Draft, drafts, [Refused(id=f"lost{r}", reason="not-written", detail="the reply held 4 of 5", text="")]
    )
    now.keep("label", Label, [Label(id=one.id, task=one.task, score=0.9, margin=0.5) for one in drafts])
    kept = []
    for one in drafts:
        if one.instruction not in seen:
            kept.append(one)
            seen.add(one.instruction)
    kept_ids = {id(one) for one in kept}
    lost = [refuse(one, "near-duplicate", "like an instruction of D") for one in drafts if id(one) not in kept_ids]
    now.keep("admit", Draft, kept, lost)
    written = [lesson(one, _refined(one), one.task, is_hard=True) for one in kept]
    now.keep("refine", Lesson, written)
    hard = [*hard, *written]
    share = alpha(r, cfg.curriculum)
    mixture = mix(hard, easy, share, cfg.curriculum.rows_per_round or 300, shares.shares, r, taught={})
    now.mixture(mixture.lessons)
    _keep_mix(now, mixture, share, len(hard), shares)
    await now.train("train", Played().train, mixture.lessons, start=Checkpoint(**_student(run, r - 1)))
    if sample.is_evaluated:
        _evaluate(now, sample, LIFT["tapir"] * r / sample.rounds, seed=r)
    return hard


def _student(run: RunStore, round_: int) -> dict[str, str]:
    info = json.loads((run.directory / "students" / f"round-{round_}" / "tapir.json").read_text())
    return {"path": f"students/round-{round_}", "digest": info["digest"]}


def _keep_mix(now: Round, mixture: Any, share: float, pool: int, shares: Any) -> None:
    now.keep(
        "mix", Lesson, (), alpha=share, size=len(mixture.lessons), hard=mixture.hard, easy=mixture.easy,
        repeated=mixture.repeated, pool=pool, tokens=len(mixture.lessons) * 41, tasks=mixture.task_counts(),
        shares=shares.shares, absent=shares.absent,
    )  # fmt: skip


def _evaluate(now: Round, sample: Sample, lift: float, seed: int) -> None:
    rows = []
    for index, item in enumerate(balanced_test_set(1, sample.per_cell, exclude=())):
        response = play(item, lift, random.Random(f"{index}" if index % 3 else f"{index}:{seed}"))
        rows.append(
            Evaluated(
                id=f"item{index:05d}", set="world", task=item.task, difficulty=item.difficulty,
                weight=1.0 / item.difficulty, instruction=item.instruction, reference=item.refined, response=response,
                score=score(item, response), is_correct=score(item, response) >= 9,
            )
        )  # fmt: skip
    now.keep("evaluate", Evaluated, rows)

"""Algorithm 1 of TAPIR: find what the student cannot do, then teach it in rounds.

Roles are the outside world, `run` remembers, and everything decided here is decided by pure functions. The steps are
numbered as in docs/method.md.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from tapir.admission import Admission
from tapir.balance import plan_expansion, target_shares, task_quotas
from tapir.config import RunConfig
from tapir.curriculum import alpha, mix, mixture_rows
from tapir.difficulty import Selection, mfd, select_seeds
from tapir.errors import RunError
from tapir.held_out import decontaminate, hold_out
from tapir.roles import Roles
from tapir.rows import Checkpoint, Draft, Example, Labelled, Lesson, lesson, with_tasks
from tapir.store import Round, RunStore
from tapir.tasks import Task


@dataclass(frozen=True)
class State:
    """What passes from round to round."""

    student: Checkpoint
    hard: tuple[Lesson, ...]
    """D_P: the seeds, and what the teacher has written so far."""
    easy: tuple[Lesson, ...]
    """D \\ D_S."""
    held_out: tuple[Example, ...]
    """Rows of the corpus set aside for evaluation."""
    known: tuple[str, ...]
    """Ids of all instructions of the corpus, the held-out ones too."""
    taught: Counter[str]
    """How often each row, by id, was in the training set of a round so far."""
    admission: Admission
    """What a new instruction must not repeat: corpus, seeds, earlier rounds, evaluation sets."""


async def distill(cfg: RunConfig, roles: Roles, run: RunStore) -> Checkpoint:
    """Find what the student cannot do, then teach it in rounds (Algorithm 1)."""
    return await teach(await prepare(cfg, roles, run), cfg, roles, run)


async def prepare(cfg: RunConfig, roles: Roles, run: RunStore) -> State:
    """Steps 1-6: fit the student once, find what stays hard for it, and make that the seed set."""
    now = run.round(0)
    raw = await now.step("corpus", roles.corpus.read, may_refuse=True)
    corpus, held_out = hold_out(raw, cfg.evaluation.held_out, cfg.seed)  # D
    items = [*roles.evaluator.instructions(), *(row.instruction for row in held_out)]
    corpus, contaminated = decontaminate(corpus, items, cfg.evaluation)
    now.keep("decontaminate", Example, corpus, contaminated)

    student = await now.train("warm-up", roles.student.train, corpus)  # S_0
    answers = now.step("answer", roles.student.answer, run.located(student), corpus)  # streams into the judge
    labels = now.step("label", roles.classifier.label, corpus)
    references = corpus
    if cfg.difficulty.reference == "teacher":
        references = list(await now.step("respond", roles.teacher.respond, corpus))
    judged = await now.step("judge", roles.judge.score, references, answers)
    labelled = with_tasks(judged, await labels)

    selection = select_seeds(labelled, cfg.difficulty, cfg.seed)  # D_S and D \ D_S
    now.keep("select", Labelled, selection.seeds, threshold=selection.threshold, notes=selection.notes)
    if not selection.seeds:
        raise RunError(_nothing_hard(labelled, selection))
    own = {row.id: row.response for row in corpus}
    unrefined = [structs.replace(row, response=own[row.id]) for row in selection.seeds]
    seeds = await now.step("refine", roles.teacher.refine, unrefined)
    await evaluate(student, held_out, roles, now, run)

    tasks = {row.id: row.task for row in labelled}
    easy_ids = {row.id for row in selection.easy} or set(tasks)
    if not selection.easy and cfg.difficulty.select == "mfd":
        run.observer.said("every row of D is hard: easy rows are drawn from the whole of D")
    source = references if cfg.curriculum.easy_response == "reference" else corpus
    easy = [lesson(row, row.response, tasks[row.id], is_hard=False) for row in source if row.id in easy_ids]
    admission = Admission(cfg.expand, cfg.evaluation, corpus=corpus, evaluation=items)
    return State(
        student, tuple(seeds), tuple(easy), tuple(held_out), tuple(row.id for row in raw), Counter(), admission
    )


async def teach(state: State, cfg: RunConfig, roles: Roles, run: RunStore) -> Checkpoint:
    """All rounds, one after the other: the last round's student."""
    for r in range(1, cfg.curriculum.rounds + 1):
        state = await run_round(r, state, cfg, roles, run)
    return state.student


async def run_round(r: int, state: State, cfg: RunConfig, roles: Roles, run: RunStore) -> State:
    """One round: plan by task, let the teacher expand and refine, train on the α mixture, evaluate (steps 7-11)."""
    now = run.round(r)
    if cfg.expand.enabled:
        drafts = await expand(r, state, cfg, roles, run)
        written: Sequence[Lesson] = await now.step("refine", roles.teacher.refine, drafts)
        if cfg.difficulty.rescore_new:
            written = await keep_hard(written, state.student, cfg, roles, now, run)
        state = replace(state, hard=(*state.hard, *written))
    lessons = plan_mixture(r, state, cfg, roles, run)
    student = await now.train("train", roles.student.train, lessons, start=state.student)
    if cfg.evaluation.every_round or r == cfg.curriculum.rounds:
        await evaluate(student, state.held_out, roles, now, run)
    return replace(state, student=student, taught=state.taught + Counter(row.id for row in lessons))


async def evaluate(student: Checkpoint, held_out: Sequence[Example], roles: Roles, now: Round, run: RunStore) -> None:
    """Measure a student, and say on its card what it reached (step 11)."""
    measured = run.located(student)
    rows = await now.step("evaluate", roles.evaluator.run, measured, held_out)
    roles.evaluator.publish(measured, rows)


async def expand(r: int, state: State, cfg: RunConfig, roles: Roles, run: RunStore) -> list[Draft]:
    """New instructions like the hard ones, by the target distribution; what is refused is asked for again."""
    now = run.round(r)
    shares = target_shares(state.hard, cfg.tasks.target, balance=cfg.tasks.balance)
    if shares.absent:
        run.observer.said(f"round {r}: no seeds for {', '.join(shares.absent)}; their shares go to the other tasks")
    quotas = task_quotas(shares.shares, cfg.expand.new_per_round)
    shown, per_draw = cfg.draw_size
    drafts: list[Draft] = []
    taken = [*state.known, *(row.id for row in state.hard)]
    for attempt in range(cfg.expand.passes):
        missing = quotas_left(quotas, drafts)
        if not missing:
            break
        seed = cfg.seed * 1000 + attempt
        plan = plan_expansion(state.hard, missing, round_=r, shown=shown, per_draw=per_draw, seed=seed)
        suffix = f"-{attempt + 1}" if attempt else ""
        written = await now.step(f"expand{suffix}", roles.teacher.expand, plan, taken, may_refuse=True)
        taken += [row.id for row in written]
        labels = []
        if cfg.expand.check_task:
            labels = list(await now.step(f"label{suffix}", roles.classifier.label, written))
        kept, refused = state.admission.admit(written, labels, plan)
        now.keep(f"admit{suffix}", Draft, kept, refused)
        drafts += kept
    left = quotas_left(quotas, drafts)
    if left:
        deficits = ", ".join(f"{task} {count}" for task, count in left.items())
        run.observer.said(
            f"round {r}: the teacher wrote {len(drafts)} of {cfg.expand.new_per_round}; short of {deficits}"
        )
    return drafts


def quotas_left(quotas: dict[Task, int], drafts: Sequence[Draft]) -> dict[Task, int]:
    """What is still missing of each task's quota."""
    have = Counter(draft.task for draft in drafts)
    return {task: quota - have[task] for task, quota in quotas.items() if quota > have[task]}


async def keep_hard(
    written: Sequence[Lesson], student: Checkpoint, cfg: RunConfig, roles: Roles, now: Round, run: RunStore
) -> list[Lesson]:
    """Of the new lessons, those that the current student still answers badly: MFD > δ (step 10, an option of ours)."""
    answers = now.step("answer-new", roles.student.answer, run.located(student), written)
    judged = await now.step("judge-new", roles.judge.score, written, answers)
    hard = {row.id for row in judged if mfd(row) > cfg.difficulty.threshold}
    return [row for row in written if row.id in hard]


def plan_mixture(r: int, state: State, cfg: RunConfig, roles: Roles, run: RunStore) -> list[Lesson]:
    """The training set of round r: round(α_r N) hard rows by P(T), the rest easy (step 9)."""
    shares = target_shares(state.hard, cfg.tasks.target, balance=cfg.tasks.balance)
    share = alpha(r, cfg.curriculum)
    lengths: dict[Task, list[int]] = defaultdict(list)
    for row, tokens in zip(state.hard, roles.student.count_tokens(state.hard), strict=True):
        if row.task is not None:
            lengths[row.task].append(tokens)
    easy_tokens = roles.student.count_tokens(state.easy)
    total = mixture_rows(
        cfg.curriculum,
        share,
        corpus_rows=len(state.easy),
        hard_tokens={task: sum(counts) / len(counts) for task, counts in lengths.items()},
        shares=shares.shares,
        easy_tokens=sum(easy_tokens) / len(easy_tokens),
    )
    mixture = mix(state.hard, state.easy, share, total, shares.shares, cfg.seed * 1000 + r, taught=state.taught)
    now = run.round(r)
    now.mixture(mixture.lessons)
    now.keep(
        "mix",
        Lesson,
        (),
        alpha=share,
        size=total,
        hard=mixture.hard,
        easy=mixture.easy,
        repeated=mixture.repeated,
        pool=len(state.hard),
        tokens=sum(roles.student.count_tokens(mixture.lessons)),
        tasks=mixture.task_counts(),
        shares=shares.shares,
        absent=shares.absent,
    )
    return mixture.lessons


def _nothing_hard(rows: Sequence[Labelled], selection: Selection) -> str:
    most = max((mfd(row) for row in rows), default=0.0)
    if most <= 0:
        return (
            f"no row of {len(rows)} is hard: the student already matches the teacher everywhere; nothing is left to do"
        )
    return (
        f"no row of {len(rows)} is hard: the largest MFD is {most:g} and the threshold {selection.threshold}; "
        "lower difficulty.threshold or raise difficulty.quantile"
    )

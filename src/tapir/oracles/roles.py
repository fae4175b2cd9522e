"""The roles that chat models fill: teacher, judge and classifier behind endpoints.

Rows stream: a result is yielded when it and those before it are there, in the order of the input. A call without a
usable reply, or without a readable one after `max_asks` asks, is a refusal of its row.
"""

from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from tapir.config import (
    CascadeClassifierConfig,
    EndpointJudgeConfig,
    EndpointTeacherConfig,
    OracleClassifierConfig,
    RefineConfig,
)
from tapir.errors import OracleError
from tapir.oracles.asking import Asker, Reading, flow
from tapir.oracles.base import Oracle, Unanswered
from tapir.prompts import (
    DESCRIPTIONS,
    EXPAND,
    JUDGE_PAIR,
    JUDGE_SINGLE,
    LABEL,
    REFINE,
    PairVerdict,
    Piece,
    Unreadable,
    conversation,
    parse_instructions,
    parse_label,
    parse_refined,
    parse_response,
    parse_score,
    parse_scores,
)
from tapir.prompts.expand import SUBJECTS
from tapir.roles import Stage
from tapir.rows import (
    Answer,
    Draft,
    Draw,
    Example,
    Judged,
    Label,
    Labelled,
    Lesson,
    Lineage,
    Refused,
    draft,
    excerpt,
    lesson,
    refuse,
    user_turn,
)

TEACHER_ASKS = 3
"""Times that the teacher is asked for one reply that can be used."""
SUBJECTS_PER_DRAW = 3


class OracleTeacher:
    """A chat model that answers, writes new instructions and refines responses."""

    def __init__(self, oracle: Oracle, config: EndpointTeacherConfig, refine: RefineConfig) -> None:
        self._model = config.endpoint.model
        self._refine = refine
        self._answers = Asker(oracle, config.endpoint, max_asks=TEACHER_ASKS)
        self._writes = Asker(oracle, config.endpoint, config.expand_sampling, max_asks=TEACHER_ASKS)

    def identity(self, verb: str) -> Mapping[str, Any]:
        """Model, server, sampling, and the prompts of the verb; `respond` has none: the instruction is the prompt."""
        if verb == "expand":
            return self._writes.identity(EXPAND.digests)
        found = self._answers.identity()
        if verb == "refine":
            settings = self._refine
            found["enabled"] = settings.enabled
            found["plain_tasks"] = sorted(settings.plain_tasks)
            if settings.enabled:
                found["prompts"] = {prompt.name: prompt.digest for prompt in REFINE.values()}
        return found

    async def respond(self, stage: Stage, rows: Sequence[Example]) -> AsyncIterator[Example | Refused]:
        """The model's response to the conversation as it stands, without a word of ours."""
        stage.expect(len(rows))
        async with flow(self._respond, rows, self._answers.ahead) as found:
            async for row in found:
                yield row

    async def _respond(self, row: Example) -> Example | Refused:
        try:
            reply = await self._answers.read(row.turns, parse_response)
        except (Unanswered, Unreadable) as error:
            return _unanswered(row, error, "unreadable-response")
        return Example(
            id=row.id, turns=row.turns, response=reply.value, lineage=self._taught(row.lineage, reply.prompt)
        )

    async def expand(
        self, stage: Stage, plan: Sequence[Draw], taken: Sequence[str] = ()
    ) -> AsyncIterator[Draft | Refused]:
        """`count` drafts or refusals for each draw, from one call that shows its seeds.

        Of more instructions than were asked for the first `count` are used (noted as `surplus`); for fewer, the rest
        is refused as `not-written`. One that is in `taken`, or came before in this plan, is refused as `repeated`.
        New instructions are single user turns.
        """
        stage.expect(sum(draw.count for draw in plan))
        seen = set(taken)
        surplus = asked_again = 0
        async with flow(self._write, plan, self._writes.ahead) as found:
            async for draw, reply in found:
                if isinstance(reply, Reading):
                    surplus += max(0, len(reply.value) - draw.count)
                    asked_again += reply.asks - 1
                for index in range(draw.count):
                    row = self._drafted(draw, reply, index)
                    if isinstance(row, Draft) and row.id in seen:
                        row = refuse(row, "repeated", "the same instruction came before in this run")
                    seen.add(row.id)
                    yield row
        stage.note(surplus=surplus, asked_again=asked_again)

    async def _write(self, draw: Draw) -> tuple[Draw, Reading[tuple[str, ...]] | OracleError]:
        """What the model writes for one draw, or why it could not be used."""
        seeds, subjects = _shown(draw)
        words = {
            "count": str(draw.count),
            "task": draw.task.value,
            "description": DESCRIPTIONS[draw.task],
            "subjects": subjects,
            "request": f"{draw.round}-{draw.seed}",
        }
        try:
            return draw, await self._writes.ask(EXPAND, parse_instructions, {"seeds": seeds}, words)
        except (Unanswered, Unreadable) as error:
            return draw, error

    def _drafted(self, draw: Draw, reply: Reading[tuple[str, ...]] | OracleError, index: int) -> Draft | Refused:
        """The instruction of one place of a draw."""
        place = f"{draw.id}-{index}"
        about = excerpt(draw.seeds[0].instruction) if draw.seeds else ""
        if isinstance(reply, OracleError):
            reason = reply.reason if isinstance(reply, Unanswered) else "unreadable-expansion"
            return Refused(id=place, reason=reason, detail=str(reply), text=about)
        if index >= len(reply.value):
            detail = f"{len(reply.value)} of {draw.count} instructions were written"
            return Refused(id=place, reason="not-written", detail=detail, text=about)
        text = reply.value[index]
        if not text:
            return Refused(id=place, reason="empty-instruction", detail="the instruction has no text", text=about)
        lineage = Lineage(
            source=self._model,
            round=draw.round,
            parents=tuple(seed.id for seed in draw.seeds),
            teacher=self._model,
            prompt=reply.prompt,
        )
        return draft(user_turn(text), draw.task, lineage)

    async def refine(self, stage: Stage, rows: Sequence[Labelled | Draft]) -> AsyncIterator[Lesson | Refused]:
        """A response in the style of the row's task type; a seed's own response is shown as one to improve on.

        Where refinement is off, or the task is one of `plain_tasks`, a seed keeps its response without a call and a
        draft gets the model's plain one.
        """
        stage.expect(len(rows))
        async with flow(self._lesson, rows, self._answers.ahead) as found:
            async for row in found:
                yield row

    async def _lesson(self, row: Labelled | Draft) -> Lesson | Refused:
        is_plain = not self._refine.enabled or row.task in self._refine.plain_tasks
        if is_plain and isinstance(row, Labelled):
            return lesson(row, row.response, row.task, is_hard=True)
        prompt = None if is_plain else REFINE[row.task]
        try:
            if prompt is None:
                reply = await self._answers.read(row.turns, parse_response)
            else:
                earlier = [Piece("EARLIER REPLY", row.response)] if isinstance(row, Labelled) else []
                data = {"conversation": conversation(row.turns), "earlier": earlier}
                reply = await self._answers.fill(prompt, parse_refined, data)
        except (Unanswered, Unreadable) as error:
            return _unanswered(row, error, "unreadable-response")
        lineage = self._taught(row.lineage, reply.prompt)
        return lesson(row, reply.value, row.task, is_hard=True, lineage=lineage)

    def _taught(self, lineage: Lineage, prompt: str | None) -> Lineage:
        return msgspec.structs.replace(lineage, teacher=self._model, prompt=prompt)


def _shown(draw: Draw) -> tuple[list[Piece], str]:
    """The seeds of a draw as they are shown, and the subjects to lean towards, as the draw's seed has it."""
    random = Random(draw.seed)
    seeds = random.sample(draw.seeds, len(draw.seeds))
    subjects = random.sample(SUBJECTS, SUBJECTS_PER_DRAW)
    pieces = [piece for at, seed in enumerate(seeds, 1) for piece in conversation(seed.turns, f"EXAMPLE {at} ")]
    return pieces, "; ".join(subjects)


class OracleJudge:
    """A chat model that scores both responses to an instruction, the reference as A and the student's as B.

    The order is fixed, so that a judge's liking for a place shifts the MFD of all rows alike; `swap` removes it by a
    second call in the other order, whose scores are averaged with the first's.
    """

    def __init__(self, oracle: Oracle, config: EndpointJudgeConfig) -> None:
        self._config = config
        self._asker = Asker(oracle, config.endpoint, max_asks=config.max_asks)

    def identity(self, verb: str) -> Mapping[str, Any]:
        """Model, server, sampling, prompts, mode and swap."""
        question = JUDGE_PAIR if self._config.mode == "pair" else JUDGE_SINGLE
        return {**self._asker.identity(question.digests), "mode": self._config.mode, "swap": self._config.swap}

    async def score(
        self, stage: Stage, references: Sequence[Example], answers: AsyncIterable[Answer]
    ) -> AsyncIterator[Judged | Refused]:
        """The answers in the order in which they come; one to an instruction without a reference is refused.

        Notes how often was asked again and, with `swap`, the mean `order_effect` (see `_swapped`).
        """
        by_id = {row.id: row for row in references}
        seen = asked_again = 0
        effects: list[float] = []

        async def judge(answer: Answer) -> Judged | Refused:
            reference = by_id.get(answer.id)
            if reference is None:
                detail = "there is no reference response to this instruction"
                return Refused(id=answer.id, reason="no-reference", detail=detail, text=excerpt(answer.response))
            return await self._judge(reference, answer)

        async with flow(judge, answers, self._asker.ahead) as found:
            async for row in found:
                seen += 1
                if isinstance(row, Judged) and row.judge_detail is not None:
                    detail = msgspec.json.decode(row.judge_detail)
                    asked_again += sum(call["asks"] - 1 for call in detail["calls"])
                    effects += [detail["order_effect"]] if "order_effect" in detail else []
                yield row
        stage.expect(seen)
        mean = {"order_effect": round(sum(effects) / len(effects), 4)} if effects else {}
        stage.note(asked_again=asked_again, **mean)

    async def _judge(self, reference: Example, answer: Answer) -> Judged | Refused:
        if not reference.response.strip():
            return refuse(reference, "empty-reference", "the reference response is empty")
        try:
            if self._config.mode == "single":
                return await self._one_by_one(reference, answer)
            first = await self._pair(reference, reference.response, answer.response)
            if not self._config.swap:
                return _judged(reference, answer, first.value[:2], first.value.rationale, _pair_detail(first))
            second = await self._pair(reference, answer.response, reference.response)
        except (Unanswered, Unreadable) as error:
            return _unanswered(reference, error, "unreadable-verdict")
        return _swapped(reference, answer, first, second)

    async def _pair(self, reference: Example, a: str, b: str) -> Reading[PairVerdict]:
        data = {
            "request": conversation(reference.turns),
            "answer_a": [Piece("ANSWER A", a)],
            "answer_b": [Piece("ANSWER B", b)],
        }
        return await self._asker.ask(JUDGE_PAIR, parse_scores, data)

    async def _one_by_one(self, reference: Example, answer: Answer) -> Judged:
        request = conversation(reference.turns)
        readings = [
            await self._asker.ask(JUDGE_SINGLE, parse_score, {"request": request, "answer": [Piece("ANSWER", text)]})
            for text in (reference.response, answer.response)
        ]
        calls = [
            {"shown": shown, "score": reading.value.score, "asks": reading.asks}
            for shown, reading in zip(("reference", "student"), readings, strict=True)
        ]
        scores = (readings[0].value.score, readings[1].value.score)
        said = [reading.value.rationale for reading in readings if reading.value.rationale]
        return _judged(reference, answer, scores, "\n\n".join(said) or None, {"mode": "single", "calls": calls})


def _swapped(reference: Example, answer: Answer, first: Reading[PairVerdict], second: Reading[PairVerdict]) -> Judged:
    """The mean of two verdicts, the second with the student's answer shown first.

    The order effect is what being shown first is worth to an answer, in points: half of the reference's loss plus the
    student's gain between the two calls.
    """
    one, two = first.value, second.value
    scores = ((one.score_a + two.score_b) / 2, (one.score_b + two.score_a) / 2)
    detail = _pair_detail(first)
    detail["calls"].append({"first": "student", "reference": two.score_b, "student": two.score_a, "asks": second.asks})
    detail["order_effect"] = round((one.score_a - two.score_b + two.score_a - one.score_b) / 2, 4)
    detail["swapped_rationale"] = two.rationale
    return _judged(reference, answer, scores, one.rationale, detail)


def _pair_detail(reading: Reading[PairVerdict]) -> dict[str, Any]:
    verdict = reading.value
    call = {"first": "reference", "reference": verdict.score_a, "student": verdict.score_b, "asks": reading.asks}
    return {"mode": "pair", "calls": [call]}


def _judged(
    reference: Example, answer: Answer, scores: tuple[float, float], rationale: str | None, detail: dict[str, Any]
) -> Judged:
    return Judged(
        id=reference.id,
        turns=reference.turns,
        response=reference.response,
        lineage=reference.lineage,
        student_response=answer.response,
        teacher_score=scores[0],
        student_score=scores[1],
        rationale=rationale,
        judge_detail=msgspec.json.encode(detail).decode(),
    )


class OracleClassifier:
    """A chat model that labels every instruction. It states no confidence: score and margin are always 1."""

    def __init__(self, oracle: Oracle, config: OracleClassifierConfig | CascadeClassifierConfig) -> None:
        self._asker = Asker(oracle, config.endpoint, max_asks=config.max_asks)

    def identity(self, verb: str) -> Mapping[str, Any]:
        """Model, server, sampling and prompts."""
        return self._asker.identity(LABEL.digests)

    async def label(self, stage: Stage, rows: Sequence[Example | Draft]) -> AsyncIterator[Label | Refused]:
        """The task type that the model names for each instruction."""
        stage.expect(len(rows))
        async with flow(self._label, rows, self._asker.ahead) as found:
            async for row in found:
                yield row

    async def _label(self, row: Example | Draft) -> Label | Refused:
        try:
            reply = await self._asker.ask(LABEL, parse_label, {"request": conversation(row.turns)})
        except (Unanswered, Unreadable) as error:
            return _unanswered(row, error, "unreadable-label")
        return Label(id=row.id, task=reply.value, score=1.0, margin=1.0)


def _unanswered(row: Example | Draft, error: Unanswered | Unreadable, unreadable: str) -> Refused:
    """The refusal of a row whose call brought nothing that can be used."""
    return refuse(row, error.reason if isinstance(error, Unanswered) else unreadable, str(error))

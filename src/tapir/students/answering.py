"""Answering a stage's rows on this machine: in parts that are kept as they are finished."""

import os
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tapir.config import StudentConfig
from tapir.errors import StudentError
from tapir.roles import Stage
from tapir.rows import Answer, Checkpoint, Example, Refused, refuse
from tapir.students.adapters import context_of
from tapir.students.devices import answering_precision, pick_device, quiet_libraries, settle_cpu, torch_dtype
from tapir.students.endpoint import row_seed
from tapir.students.models import load_model
from tapir.students.threads import in_thread
from tapir.students.tokens import ChatTokenizer, load_tokenizer

PART_BATCHES = 4
"""Batches in a part: a part is decoded in one go, written, and passed on."""

PROGRESS_S = 0.2


class Asked(NamedTuple):
    """A row with its prompt."""

    row: Example
    ids: list[int]
    max_new_tokens: int


async def answer_here(
    stage: Stage, config: StudentConfig, seed: int, student: Checkpoint, rows: Sequence[Example]
) -> AsyncGenerator[Answer | Refused]:
    """The student's response to every row: refusals first, then the longest prompts.

    The parts depend on rows and settings alone; a part that an earlier, killed run has written is read back.

    Raises:
        StudentError: the student cannot be loaded, or one row alone does not fit into memory.
    """
    engine = Engine(config, seed, student)
    asked, refused = engine.ask(rows)
    for refusal in refused:
        yield refusal
    done, size = len(refused), config.generation.batch_size * PART_BATCHES
    for start in range(0, len(asked), size):
        part = asked[start : start + size]
        path = stage.work / "answers" / f"{engine.key(part)}.json"
        answers = _read(path)
        if answers is None:
            tell = partial(_tell, stage, done, len(rows))
            answers = await in_thread(partial(engine.answer, part, tell))
            _write(path, answers)
        done += len(answers)
        for answer in answers:
            yield answer
    stage.note(answering=engine.settings)


def _tell(stage: Stage, before: int, total: int, finished: int) -> None:
    stage.progress(before + finished, total)


class Engine:
    """One student, loaded when the first part asks for it."""

    def __init__(self, config: StudentConfig, seed: int, student: Checkpoint) -> None:
        self.config, self.seed, self.student = config, seed, student
        self.device = pick_device(config.device)
        self.precision = answering_precision(config.generation.precision, self.device)
        self._chat: ChatTokenizer = load_tokenizer(student.path, trust_remote_code=config.trust_remote_code)
        self._model: Any = None

    @property
    def settings(self) -> dict[str, Any]:
        """How answers are drawn, as JSON values."""
        return {
            **self.config.generation.model_dump(mode="json"),
            "precision": self.precision,
            "device": self.device,
            "seed": self.seed,
        }

    def ask(self, rows: Sequence[Example]) -> tuple[list[Asked], list[Refused]]:
        """The rows with their prompts, longest first; a prompt that the model cannot take is refused."""
        context = context_of(self.student.path, self.config.trust_remote_code)
        most = self.config.generation.max_new_tokens
        rendered, refused = _render(self._chat, rows)
        asked = []
        every = self._chat.ids([text for _, text in rendered])
        for (row, _), ids in zip(rendered, every, strict=True):
            room = most if context is None else min(most, context - len(ids))
            if room < 1:
                detail = f"the prompt takes {len(ids)} tokens and the model's context holds {context}"
                refused.append(refuse(row, "prompt-too-long", detail))
            else:
                asked.append(Asked(row, ids, room))
        asked.sort(key=lambda one: -len(one.ids))
        return asked, refused

    def key(self, part: Sequence[Asked]) -> str:
        """Digest of everything that decides the answers of a part."""
        prompts = [(one.row.id, one.ids, one.max_new_tokens) for one in part]
        content = msgspec.msgpack.encode([self.student.digest, self.settings, prompts])
        return blake2b(content, digest_size=12).hexdigest()

    def answer(
        self, part: Sequence[Asked], tell: Callable[[int], None], should_stop: Callable[[], bool]
    ) -> list[Answer]:
        """Generate the answers of a part; `tell` hears how many rows are finished.

        Raises:
            StudentError: the model cannot be loaded, or one row alone does not fit into memory.
        """
        from tapir.students.generate import complete
        from tapir.students.slots import Prompt

        settle_cpu(self.config.threads)
        with quiet_libraries():
            self._load()
            prompts = [Prompt(one.ids, one.max_new_tokens, row_seed(self.seed, one.row.id)) for one in part]
            rows = self.config.generation.batch_size
            done = complete(self._model, prompts, self._decoding(), rows, _ticker(tell, should_stop))
        if done is None:
            return []
        texts = self._chat.decode([completion.ids for completion in done])
        return [
            Answer(
                id=one.row.id,
                response=text,
                finish="stop" if completion.is_stopped else "length",
                tokens=len(completion.ids),
            )
            for one, text, completion in zip(part, texts, done, strict=True)
        ]

    def _decoding(self) -> Any:
        """How tokens are drawn and when a row ends."""
        from tapir.students.slots import Decoding

        generation = self.config.generation
        return Decoding(
            stop_ids=self._chat.stop_ids(self._model.generation_config),
            pad_id=self._chat.tokenizer.pad_token_id,
            temperature=generation.temperature,
            top_p=generation.top_p,
        )

    def _load(self) -> None:
        """Load the model, once."""
        if self._model is None:
            config = self.config
            model = load_model(
                self.student.path, dtype=torch_dtype(self.precision), trust_remote_code=config.trust_remote_code
            )
            self._model = model.to(self.device).eval()


def _render(chat: ChatTokenizer, rows: Sequence[Example]) -> tuple[list[tuple[Example, str]], list[Refused]]:
    """The rows that the chat template takes, with their prompts, and refusals of the others."""
    rendered, refused = [], []
    for row in rows:
        try:
            rendered.append((row, chat.prompt(row.turns)))
        except StudentError as error:
            refused.append(refuse(row, "chat-template", str(error)))
    return rendered, refused


def _ticker(tell: Callable[[int], None], should_stop: Callable[[], bool]) -> Callable[[int], bool]:
    """Called at every step with the rows finished: tells them now and then, and whether to stop."""
    told = 0.0

    def tick(finished: int) -> bool:
        nonlocal told
        if time.monotonic() - told > PROGRESS_S:
            told = time.monotonic()
            tell(finished)
        return should_stop()

    return tick


def _read(path: Path) -> list[Answer] | None:
    """The answers of a part written earlier; None where there is none, or it is torn."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Answer])
    except (OSError, msgspec.DecodeError):
        return None


def _write(path: Path, answers: Sequence[Answer]) -> None:
    """Write a part, all at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    with draft.open("wb") as file:
        file.write(msgspec.json.encode(answers))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)

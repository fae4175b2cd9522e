"""Answering through a server: any OpenAI-compatible one that serves the student."""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import msgspec

from tapir.config import EndpointConfig, GenerationConfig
from tapir.oracles.base import Oracle, Sampling, Unanswered
from tapir.oracles.stream import in_order
from tapir.roles import Stage
from tapir.rows import Answer, Checkpoint, Example, Refused, refuse

log = logging.getLogger(__name__)

Opener = Callable[[EndpointConfig], AbstractAsyncContextManager[Oracle]]
"""Opens the oracle of an endpoint; its replies are to be taken as they are, empty or cut off."""

PATH = "{student}"
"""In `student.endpoint.model`: the directory of the student that is asked."""


@asynccontextmanager
async def open_plainly(endpoint: EndpointConfig) -> AsyncIterator[Oracle]:
    """An endpoint with retries and limits, and without ledger and budget: for a server of one's own.

    Raises:
        ConfigError: the endpoint wants a key and there is none.
    """
    from tapir.oracles.endpoint import ChatEndpoint, open_session
    from tapir.oracles.keys import read_key
    from tapir.oracles.limiter import Limited, Limiter
    from tapir.oracles.retrying import Retrying

    key = read_key(endpoint)
    async with open_session(endpoint, key) as session:
        limiter = Limiter(endpoint)
        chat = ChatEndpoint(endpoint, session, key, limiter, role="student")
        yield Retrying(Limited(chat, limiter), endpoint, chat.name, as_is=True)


async def answer_by_endpoint(
    stage: Stage,
    endpoint: EndpointConfig,
    generation: GenerationConfig,
    seed: int,
    student: Checkpoint,
    rows: Sequence[Example],
    open_oracle: Opener,
) -> AsyncGenerator[Answer | Refused]:
    """The served student's response to every row, in the order of `rows`.

    Every reply is kept as it comes; an earlier, killed attempt's replies are not asked for again.

    Raises:
        OracleError: the server cannot be asked at all.
    """
    model = endpoint.model.replace(PATH, student.path)
    if PATH not in endpoint.model:
        log.warning("student.endpoint.model is %r for every student of the run; %s is the one asked", model, PATH)
    # One name may be served with other weights in every round: their digest keeps a ledger from mixing them up.
    version = f"{endpoint.model_version} {student.digest}".lstrip()
    served = endpoint.model_copy(update={"model": model, "model_version": version})
    settings = {**generation.model_dump(mode="json", exclude={"batch_size", "precision"}), "seed": seed}
    path = stage.work / "answers" / f"{_digest(student, model, settings)}.jsonl"
    known = _read(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    async with open_oracle(served) as oracle:
        with path.open("ab") as file:

            async def ask(row: Example) -> Answer | Refused:
                if row.id in known:
                    return known[row.id]
                answer = await _ask(oracle, row, generation, seed)
                if isinstance(answer, Answer):
                    _keep(file, answer)
                return answer

            async for answer in in_order(ask, rows, ahead=2 * endpoint.max_concurrency):
                yield answer
    stage.note(answering={**settings, "model": endpoint.model})


async def _ask(oracle: Oracle, row: Example, generation: GenerationConfig, seed: int) -> Answer | Refused:
    """One row's answer, or why the server gave none."""
    sampling = Sampling(
        temperature=generation.temperature,
        top_p=generation.top_p,
        max_tokens=generation.max_new_tokens,
        seed=None if generation.temperature == 0 else row_seed(seed, row.id),
    )
    try:
        reply = await oracle.complete(row.turns, sampling)
    except Unanswered as error:
        return refuse(row, error.reason, str(error))
    return Answer(
        id=row.id,
        response=reply.text,
        finish="length" if reply.finish == "length" else "stop",
        tokens=reply.usage.output_tokens,
    )


def row_seed(seed: int, row: str) -> int:
    """A row's own seed, below 2**31: servers take no larger ones."""
    return int.from_bytes(blake2b(f"{seed}:{row}".encode(), digest_size=4).digest()) >> 1


def _digest(student: Checkpoint, model: str, settings: dict[str, object]) -> str:
    content = msgspec.json.encode([student.digest, model, settings], order="sorted")
    return blake2b(content, digest_size=12).hexdigest()


def _keep(file: BinaryIO, answer: Answer) -> None:
    """Append one answer; a line begins and ends with a line break, so that a torn one spoils no other."""
    file.write(b"\n" + msgspec.json.encode(answer) + b"\n")
    file.flush()


def _read(path: Path) -> dict[str, Answer]:
    """The answers that an earlier attempt has kept."""
    known = {}
    for line in path.read_bytes().split(b"\n") if path.is_file() else ():
        try:
            answer = msgspec.json.decode(line, type=Answer)
        except msgspec.DecodeError:
            continue
        known[answer.id] = answer
    return known

"""WorldServer: the embedded world's teacher and judge behind an OpenAI-compatible address.

    python -m tapir.testing.world --port 8765        # then: tapir run examples/world-endpoint.yaml

It reads the prompts that tapir's roles send, answers them as the in-process world does, and can fail as often as
wished.
"""

import argparse
import re
from collections.abc import Mapping
from random import Random
from typing import Any

from tapir.errors import DataError
from tapir.rows import Lineage, Refused, example, user_turn
from tapir.testing.server import Act, Call, FaultyServer, malformed, reply, reset, status
from tapir.world.families import solve
from tapir.world.judging import score
from tapir.world.roles import SOURCE, write_like

MODEL = "world"
_FENCED = re.compile(r"^<<<([A-Z0-9 ]+) #([0-9a-f]{12})\n(.*?)\n\1 #\2>>>$", re.DOTALL | re.MULTILINE)
_REQUEST = re.compile(r"\(Request [0-9]+-([0-9]+)\.\)")
_WRITE = re.compile(r"Write ([0-9]+) new instructions")


class WorldServer(FaultyServer):
    """A FaultyServer that answers as the world's teacher and judge.

    A share `faults` of the calls fails first, a third each by a 500, a reset and a malformed body, decided by the call
    and its attempt; asked again often enough, every call is answered.
    """

    def __init__(self, *, faults: float = 0.0, seed: int = 0, port: int = 0, **settings: Any) -> None:
        super().__init__(self._plan, keep_calls=False, **settings)
        self.port = port
        self._faults = faults
        self._seed = seed

    def _plan(self, call: Call) -> Act:
        random = Random(f"{self._seed}/{call.digest}/{call.attempt}")
        if random.random() < self._faults:
            return random.choice((status(500), reset(), malformed()))
        try:
            return reply(answer(call.prompt))
        except DataError as error:
            return status(400, str(error), error="not_of_the_world")


def answer(prompt: str) -> str:
    """The world's reply to a prompt of tapir's roles, or to a bare instruction of the world.

    Raises:
        DataError: the prompt holds no instruction of the world.
    """
    texts = {label: text for label, _, text in _FENCED.findall(prompt)}
    if not texts:
        return solve(prompt).refined
    if "ANSWER A" in texts:
        return _score_pair(texts)
    if "ANSWER" in texts:
        return _score_one(texts)
    if (count := _WRITE.match(prompt)) is not None:
        return _write(prompt, int(count[1]), texts)
    return solve(texts["USER"]).refined


def _score_pair(texts: Mapping[str, str]) -> str:
    item = solve(texts["USER"])
    scores = [score(item, texts[label]) for label in ("ANSWER A", "ANSWER B")]
    return "Checked against the world.\nFINAL-SCORES: A={:g} B={:g}".format(*scores)


def _score_one(texts: Mapping[str, str]) -> str:
    return f"Checked against the world.\nFINAL-SCORE: {score(solve(texts['USER']), texts['ANSWER']):g}"


def _write(prompt: str, count: int, texts: Mapping[str, str]) -> str:
    """New instructions, as the in-process teacher writes them for the same draw."""
    request = _REQUEST.search(prompt)
    if request is None:
        raise DataError("the request for new instructions has no number")
    seeds = [example(user_turn(text), "", Lineage(source=SOURCE)) for text in texts.values()]
    lines = []
    for number, row in enumerate(write_like(seeds, count, int(request[1])), start=1):
        if isinstance(row, Refused):
            raise DataError(row.detail)
        lines += [f"=== INSTRUCTION {number} ===", row[1].instruction]
    return "\n".join([*lines, "=== END ==="])


def main() -> None:
    """Serve the world until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tapir.testing.world", description=__doc__)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--faults", type=float, default=0.0, help="share of the calls that fail at first, 0 to 1")
    given = parser.parse_args()
    with WorldServer(faults=given.faults, port=given.port) as server:
        print(f"the world answers at {server.base_url}; Ctrl-C ends it", flush=True)
        try:
            server.join()
        except KeyboardInterrupt:
            print("ended")


if __name__ == "__main__":
    main()

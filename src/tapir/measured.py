"""What calls have taken so far: the tokens of a call, measured over the replies that a run has in the ledger."""

import sqlite3
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from tapir.config import RunConfig
from tapir.oracles.ledger_file import read_only
from tapir.quote import Usage, endpoints

ENOUGH = 5
"""Calls from which a mean is believed rather than the guess."""

PILOT = "pilot"
"""What stands for the round's number where a pilot's calls are booked."""

_KINDS = {"judge-new": "judge", "answer-new": "answer", "evaluate": "judge"}
"""Stages that ask what another does."""

_REPLIES = """
SELECT stage, role, asked, count(*), sum(input_tokens + wasted_input), sum(output_tokens + wasted_output)
FROM replies WHERE run = ? GROUP BY stage, role, asked
"""


def measured_usage(cfg: RunConfig, ledger: Path, enough: int = ENOUGH) -> dict[str, Usage]:
    """Mean tokens of the calls that this run, or its pilot, has paid for, by kind (judge, refine, ...).

    Only replies of the models that the configuration names now count, with the unusable replies before them; a kind
    with fewer than `enough` is left out. Reads the ledger without a lock, and finds nothing in a damaged one.
    """
    models = {role: endpoint.model for role, endpoint in endpoints(cfg).items()}
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    with suppress(sqlite3.Error), read_only(ledger) as database:
        for stage, role, asked, *counts in database.execute(_REPLIES, (cfg.name,)) if database else ():
            kind = call_kind(stage, role)
            # a student is asked by the name of its directory, which differs from round to round
            if kind and (models.get(role) == asked or role == "student"):
                sums[kind] = [a + b for a, b in zip(sums[kind], counts, strict=True)]
    return {kind: Usage(inputs / n, outputs / n, n) for kind, (n, inputs, outputs) in sums.items() if n >= enough}


def call_kind(label: str, role: str) -> str:
    """What kind of call a role makes in the stage of this label; empty for calls of no stage, such as a probe."""
    number, _, name = label.partition("-")
    if not (number.isdecimal() or number == PILOT):
        return ""
    if role == "student":
        return "answer"
    head, _, last = name.rpartition("-")
    verb = head if last.isdecimal() else name
    return _KINDS.get(verb, verb)

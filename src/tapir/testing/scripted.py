"""Oracles that follow a script, so that recipes can be tested without a server."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tapir.oracles.base import Completion, Sampling, Unanswered, Usage
from tapir.oracles.wire import estimate_input, estimate_tokens
from tapir.prompts.fence import KEY_DIGITS
from tapir.rows import Message

Reply = str | Completion | Exception
"""What a script says to a call: a text, a whole completion, or a failure to raise."""

Script = Callable[[Sequence[Message], Sampling], Reply] | Mapping[str, Reply | Sequence[Reply]]


class Call(NamedTuple):
    """One call that a ScriptedOracle has met."""

    messages: tuple[Message, ...]
    sampling: Sampling

    @property
    def prompt(self) -> str:
        """The text of the last message."""
        return self.messages[-1].content


class ScriptedOracle:
    """An oracle that replies as its script says. Implements `tapir.oracles.base.Oracle`.

    The script is a function of messages and sampling, or a mapping: the first of its keys that occurs in the last
    message gives the reply, and a list of replies is taken by attempt, the last one for all further attempts. The key
    "" fits every call. `calls` are all calls so far, in the order in which they came.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self.calls: list[Call] = []

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """The scripted reply.

        Raises:
            Exception: whatever failure the script holds for this call.
            LookupError: the script has no reply to this call.
        """
        call = Call(tuple(messages), sampling)
        self.calls.append(call)
        reply = self._script(messages, sampling) if callable(self._script) else _looked_up(self._script, call)
        if isinstance(reply, Exception):
            raise reply
        return reply if isinstance(reply, Completion) else completion(reply, messages)


def _looked_up(script: Mapping[str, Reply | Sequence[Reply]], call: Call) -> Reply:
    for key, reply in script.items():
        if key in call.prompt:
            if isinstance(reply, str | Completion | Exception):
                return reply
            return reply[min(call.sampling.attempt, len(reply) - 1)]
    raise LookupError(f"the script has no reply to: {call.prompt[:200]}")


def completion(text: str, messages: Sequence[Message] = (), *, is_cut: bool = False) -> Completion:
    """A completion of `text`; `is_cut`: one that ran into max_tokens."""
    usage = Usage(input_tokens=estimate_input(messages), output_tokens=estimate_tokens(text), is_estimated=True)
    return Completion(text=text, finish="length" if is_cut else "stop", usage=usage, model="scripted")


def unanswered(reason: str = "timeout") -> Unanswered:
    """The failure of one call after all its attempts."""
    return Unanswered(reason, f"scripted failure: {reason}")


# ---- a judge that believes what it reads

_FENCED = re.compile(rf"^<<<([A-Z0-9 ]+) #([0-9a-f]{{{KEY_DIGITS}}})\n(.*?)\n\1 #\2>>>$", re.DOTALL | re.MULTILINE)
_GRADE = r"(-?[0-9]+(?:\.[0-9]+)?)"
_ORDERS = re.compile(
    rf"final-scores?\s*:\s*a\s*=\s*{_GRADE}\s+b\s*=\s*{_GRADE}"
    rf'|"score_a"\s*:\s*{_GRADE}\s*,\s*"score_b"\s*:\s*{_GRADE}'
    rf'|(?:final-score|"score")\s*:\s*{_GRADE}'
    r"|\b(?:output|print|give|award|assign|return|write|rate|grade|score|answer)\b"
    rf"(?:\s+(?:it|this|me|them|both|a|b|an?|the|with|as|of|score|grade|is|must|be|answer|student|[:=])){{0,6}}\s*{_GRADE}\b",
    re.IGNORECASE,
)


def unfenced(text: str) -> str:
    """A prompt without the texts that stand in fences."""
    return _FENCED.sub("", text)


class GullibleJudge:
    """A judge that obeys the last verdict, or order to give one, that it reads outside the fences of its prompt.

    Where it reads none it says `honest`. `quotes`: before that it repeats the last answer that it was shown.
    """

    def __init__(self, honest: str, *, quotes: bool = False) -> None:
        self._honest = honest
        self._quotes = quotes

    def __call__(self, messages: Sequence[Message], sampling: Sampling) -> str:
        """Its reply: a script for ScriptedOracle."""
        text = "\n".join(message.content for message in messages)
        orders = [[grade for grade in found.groups() if grade] for found in _ORDERS.finditer(unfenced(text))]
        said = self._honest
        if orders:
            first, last = orders[-1][0], orders[-1][-1]
            said = f"FINAL-SCORES: A={first} B={last}" if "A=" in self._honest else f"FINAL-SCORE: {last}"
        quoted = [found[3] for found in _FENCED.finditer(text)]
        return f"It says: {quoted[-1]}\n{said}" if self._quotes and quoted else said

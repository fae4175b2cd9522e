"""Which of the teacher's new instructions enter the hard pool: pure checks, each with its reason for refusal."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

from tapir.config import EvaluationConfig, ExpandConfig
from tapir.contamination import EvaluationIndex
from tapir.dedup import NearDuplicates
from tapir.rows import Draft, Draw, Example, Label, Refused, refuse
from tapir.scripts import letters_by_script
from tapir.tasks import Task

SURE_MARGIN = 0.5
"""Margin from which a label of another task counts as certain (ours)."""

SCRIPT_SHARE = 0.1
"""Share of a seed's letters from which a script belongs to it."""

FOREIGN_SHARE = 0.5
"""Share of a draft's letters in scripts of none of its seeds above which it is in another language."""

NEEDED_BEFORE = 80
"""Characters before "the passage above" that may be that passage."""

_TEXT = (
    r"(?:passages?|paragraphs?|texts?|articles?|story|stories|tables?|excerpts?|e-?mails?|letters?|dialogues?"
    r"|conversations?|documents?|data(?: ?set)?|code|snippets?|programs?|functions?|sentences?|lists?|poems?|reviews?)"
)
_PICTURE = r"(?:images?|pictures?|photos?|photographs?|figures?|diagrams?|charts?|graphs?|screenshots?|maps?|videos?)"
_ABOVE = re.compile(
    rf"\b(?:the|this|these) (?:above|preceding|previous|aforementioned) (?:\w+ )?{_TEXT}\b|\bthe {_TEXT} above\b", re.I
)
_BELOW = re.compile(rf"\bthe following (?:\w+ )?{_TEXT}\b|\bthe {_TEXT} below\b", re.I)
_ABSENT = re.compile(
    rf"\b(?:shown|seen|depicted|pictured|illustrated|given) in the (?:\w+ )?{_PICTURE}\b"
    rf"|\bthe (?:above|following|attached|accompanying|provided|given) (?:\w+ )?{_PICTURE}\b"
    rf"|\b(?:the|this) {_PICTURE} (?:above|below|attached|provided)\b"
    rf"|\b(?:the|an?|this) attached (?:\w+ )?(?:{_TEXT}|files?|documents?|spreadsheets?|pdf)\b"
    r"|\b(?:as (?:mentioned|discussed|stated)|from) (?:in )?(?:the|our) (?:previous|last|earlier) "
    r"(?:question|instruction|conversation|message|task|exercise|problem)\b",
    re.I,
)
_BREAK = re.compile(r"[:\n\"“”«「『`.?!]")
_ANSWER = re.compile(
    r"\W*(?:(?:answer|solution|response|output|explanation)\s*:|the (?:correct |final )?answer is\b"
    r"|(?:sure|certainly|of course|absolutely)\s*[,!.]|here(?:'s| is| are) (?:an?|the|your|some)\b"
    r"|(?:i'm|i am) sorry\b|i (?:cannot|can't|can not|am unable to)\b|as an ai\b)",
    re.I,
)
_HEADED = re.compile(r"\W*(?:new |example )?(?:instruction|seed|prompt)\s*(?:#?\d+\s*)?[:.]", re.I)

Check = Callable[[Draft], tuple[str, str] | None]


class Admission:
    """Admits new instructions to the hard pool, and remembers those it has admitted.

    `corpus` holds the seeds too; `evaluation` are the texts of all evaluation items. Both are indexed when the first
    draft comes. What is admitted depends on the drafts and their order alone.
    """

    def __init__(
        self,
        expand: ExpandConfig,
        contamination: EvaluationConfig,
        *,
        corpus: Sequence[Example],
        evaluation: Sequence[str] = (),
    ) -> None:
        self._expand = expand
        self._ngram = contamination.contamination_ngram
        self._corpus = corpus
        self._texts = evaluation if contamination.refuse_contaminated else ()

    def admit(
        self, drafts: Sequence[Draft], labels: Iterable[Label] = (), plan: Iterable[Draw] = ()
    ) -> tuple[list[Draft], list[Refused]]:
        """The drafts to keep and refusals for the others, each list in the order of `drafts`.

        A draft is refused for the first of: `too-short`, `too-long`, `not-an-instruction`, `missing-context`,
        `other-language` (than the seeds in `plan`), `other-task` (than its own, by a label of large margin; without a
        label it has the task that was asked for), `contaminated` (repeats or overlaps an evaluation item), and
        `near-duplicate` (of the corpus, or of a draft admitted before, in this round or an earlier one).
        """
        label_of = {label.id: label for label in labels}
        seed_of = {seed.id: seed for draw in plan for seed in draw.seeds}
        checks: list[Check] = [self._length, _form, _context]
        if self._expand.check_language:
            checks.append(lambda row: _language(row, seed_of))
        if self._expand.check_task:
            checks.append(lambda row: _task(row, label_of.get(row.id)))
        checks += [self._contamination, self._novelty]
        kept: list[Draft] = []
        refused: list[Refused] = []
        for row in drafts:
            fault = next((found for check in checks if (found := check(row)) is not None), None)
            if fault is None:
                kept.append(row)
            else:
                refused.append(refuse(row, *fault))
        return kept, refused

    def _length(self, row: Draft) -> tuple[str, str] | None:
        size, least, most = len(row.instruction.strip()), self._expand.min_chars, self._expand.max_chars
        if size < least:
            return "too-short", f"{size} characters; expand.min_chars is {least}"
        if size > most:
            return "too-long", f"{size} characters; expand.max_chars is {most}"
        return None

    def _contamination(self, row: Draft) -> tuple[str, str] | None:
        run = self._runs.hits(row.instruction)
        if run is not None:
            return "contaminated", f"shares {run!r} with an evaluation item"
        like = self._items.query_row(row)
        if like is not None:
            return "contaminated", f"is {like.similarity:.0%} like {like.id}"
        return None

    def _novelty(self, row: Draft) -> tuple[str, str] | None:
        """Admit the row to the index, unless it repeats one there: the last of the checks."""
        like = self._index.add_row(row)
        return None if like is None else ("near-duplicate", f"is {like.similarity:.0%} like {like.id}")

    @cached_property
    def _index(self) -> NearDuplicates:
        index = NearDuplicates(self._expand.near_duplicates.similarity)
        for row in self._corpus:
            index.add_row(row)
        return index

    @cached_property
    def _items(self) -> NearDuplicates:
        index = NearDuplicates(self._expand.near_duplicates.similarity)
        for number, text in enumerate(self._texts):
            index.add(f"evaluation item {number}", text)
        return index

    @cached_property
    def _runs(self) -> EvaluationIndex:
        return EvaluationIndex(self._texts, self._ngram)


def _form(row: Draft) -> tuple[str, str] | None:
    """An answer, or a heading, where an instruction should be (English phrases only)."""
    found = _ANSWER.match(row.instruction) or _HEADED.match(row.instruction)
    return None if found is None else ("not-an-instruction", f"begins with {found[0].strip()!r}")


def _context(row: Draft) -> tuple[str, str] | None:
    """An instruction that speaks of something it does not hold (English phrases only)."""
    text = row.instruction
    found = _ABSENT.search(text)
    above = _ABOVE.search(text)
    if found is None and above is not None and above.start() < NEEDED_BEFORE:
        found = above
    below = _BELOW.search(text)
    if found is None and below is not None and not _has_content(text, below.end()):
        found = below
    return None if found is None else ("missing-context", f"speaks of {found[0]!r}, which is not there")


def _has_content(text: str, start: int) -> bool:
    """Whether words follow after the first break behind `start`."""
    pause = _BREAK.search(text, start)
    return pause is not None and re.search(r"\w", text[pause.end() :]) is not None


def _language(row: Draft, seed_of: Mapping[str, Example]) -> tuple[str, str] | None:
    """Another script than the seeds'; Multilingual is free. Languages of one script are not told apart."""
    seeds = [seed_of[parent] for parent in row.lineage.parents if parent in seed_of]
    if row.task is Task.MULTILINGUAL or not seeds:
        return None
    known: set[str] = set()
    for seed in seeds:
        letters = letters_by_script(seed.instruction)
        known |= {script for script, count in letters.items() if count >= SCRIPT_SHARE * letters.total()}
    letters = letters_by_script(row.instruction)
    foreign = {script: count for script, count in letters.items() if script not in known}
    if not known or sum(foreign.values()) <= FOREIGN_SHARE * letters.total():
        return None
    most = max(foreign, key=lambda script: (foreign[script], script))
    return "other-language", f"is mostly in {most} letters; its seeds are in {', '.join(sorted(known))}"


def _task(row: Draft, label: Label | None) -> tuple[str, str] | None:
    if label is None or label.task is row.task or label.margin < SURE_MARGIN:
        return None
    return "other-task", f"is {label.task} rather than {row.task} (margin {label.margin:.2f})"

"""Which new instructions enter the hard pool, and why the others do not."""

import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapir.admission import SURE_MARGIN, Admission
from tapir.config import EvaluationConfig, ExpandConfig, NearDuplicateConfig
from tapir.rows import Draft, Draw, Example, Label, Lineage, Message, Refused, draft, example, user_turn
from tapir.tasks import Task

CORPUS = [
    example(user_turn(text), "", Lineage(source="corpus"))
    for text in (
        "Explain to a child why the sky looks blue during the day and red in the evening.",
        "A farmer has twelve sheep and sells a third of them. How many sheep are left on the farm?",
        "你好，请用三句话解释为什么天空是蓝色的。",
        "Переведи на русский: the sky is blue",
    )
]
ITEMS = [
    "Draft a short speech for the retirement of a lighthouse keeper, with one anecdote about a storm and a warm ending."
]


def new(text: str, *, task: Task = Task.MATH, parents: tuple[str, ...] = (CORPUS[1].id,)) -> Draft:
    return draft(user_turn(text), task, Lineage(source="big", round=1, parents=parents))


def drawn(*seeds: Example) -> Draw:
    return Draw(id="d", round=1, task=Task.MATH, seeds=seeds, count=1, seed=1)


PLAN = [drawn(*CORPUS[:2]), drawn(CORPUS[2])]


def admission(items: list[str] = ITEMS, refuse_contaminated: bool = True, ngram: int = 8, **settings: Any) -> Admission:
    evaluation = EvaluationConfig(contamination_ngram=ngram, refuse_contaminated=refuse_contaminated)
    return Admission(ExpandConfig(**settings), evaluation, corpus=CORPUS, evaluation=items)


def reason(row: Draft, gate: Admission | None = None, labels: list[Label] | None = None) -> str | None:
    kept, refused = (gate or admission()).admit([row], labels or [], PLAN)
    assert len(kept) + len(refused) == 1
    return refused[0].reason if refused else None


@pytest.mark.parametrize(
    "text",
    [
        "How many goats are left when a shepherd gives away a quarter of sixteen?",
        "2 + 2 * 3 = ?",
        "Here, have a look: is 91 a prime number? Explain.",
        "Answer in one word: which planet is the largest?",
        "Write a story that begins with 'The answer is' and ends in silence.",
        "Summarize the following text in one sentence: The ship left at dawn and never came back.",
        "Fix the following sentence. He go to school.",
        "Rewrite the following code\n```\nprint(1)\n```",
        "The ship left at dawn with forty sailors on board, and in the evening only a boat came back to the harbour. "
        "What does the passage above not say?",
        "Write alt text for an image of a cat asleep on a keyboard.",
        "Describe a chart that would show rainfall by month.",
        "What is the table below sea level that hydrologists speak of? Explain: aquifers.",
        "Translate 'the sky is blue' into Greek: ο ουρανός",
    ],
)
def test_a_sound_instruction_is_admitted(text: str) -> None:
    assert reason(new(text)) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "too-short"),
        ("   \n ", "too-short"),
        ("Add 2.", "too-short"),
        ("x" * 8001, "too-long"),
        ("Answer: 42 sheep are left on the farm.", "not-an-instruction"),
        ("**Solution:** There are eight sheep.", "not-an-instruction"),
        ("Sure! Here is a new instruction.", "not-an-instruction"),
        ("Here are some new instructions for you", "not-an-instruction"),
        ("Here's a problem about sheep and goats.", "not-an-instruction"),
        ("The answer is 42, because six times seven is 42.", "not-an-instruction"),
        ("I'm sorry, but I cannot write this.", "not-an-instruction"),
        ("As an AI language model I have no sheep.", "not-an-instruction"),
        ("Instruction 3: How many goats are left?", "not-an-instruction"),
        ("## New instruction: count the goats", "not-an-instruction"),
        ("Prompt: count all of the goats", "not-an-instruction"),
        ("What is the main idea of the above passage?", "missing-context"),
        ("Using the table above, find the mean.", "missing-context"),
        ("As shown in the image, the lever is long. How long?", "missing-context"),
        ("What is the area of the shaded part seen in the figure?", "missing-context"),
        ("Summarize the following article in three sentences.", "missing-context"),
        ("Correct the following short paragraph", "missing-context"),
        ("Find the bug in the code below.", "missing-context"),
        ("Use the attached spreadsheet to find the sum.", "missing-context"),
        ("Describe the given picture in detail.", "missing-context"),
        ("Solve it as in the last one: using the result from the previous question, find x.", "missing-context"),
        ("请写一首关于山羊和绵羊数量的短诗吧", None),
        ("Сколько коз осталось, если пастух отдал четверть из шестнадцати?", "other-language"),
    ],
)
def test_an_unsound_instruction_is_refused_with_its_reason(text: str, why: str | None) -> None:
    parents = (CORPUS[2].id,) if why is None else (CORPUS[1].id,)
    assert reason(new(text, parents=parents)) == why


def test_the_refusal_says_what_was_wrong_and_shows_the_row() -> None:
    row = new("Describe the given picture in detail.")
    _, (refused,) = admission().admit([row], [], PLAN)
    assert refused == Refused(
        id=row.id,
        reason="missing-context",
        detail="speaks of 'the given picture', which is not there",
        text="Describe the given picture in detail.",
    )


# ---- language


def test_the_language_is_that_of_any_of_the_drafts_own_seeds() -> None:
    chinese, english = CORPUS[2].id, CORPUS[1].id
    assert reason(new("Why is grass green in spring?", parents=(chinese,))) == "other-language"
    assert reason(new("Why is grass green in spring?", parents=(chinese, english))) is None
    assert reason(new("为什么春天的草是绿色的？请解释。", parents=(chinese, english))) is None
    assert reason(new("Почему весной трава зелёная?", parents=(chinese, english))) == "other-language"


def test_multilingual_drafts_unknown_seeds_and_a_switched_off_check_pass() -> None:
    text = "Почему весной трава зелёная?"
    assert reason(new(text, task=Task.MULTILINGUAL)) is None
    assert reason(new(text, parents=("unknown",))) is None
    assert reason(new(text), admission(check_language=False)) is None


def test_a_refusal_for_language_names_the_scripts() -> None:
    _, (refused,) = admission().admit([new("Почему весной трава зелёная?")], [], PLAN)
    assert refused.detail == "is mostly in Cyrillic letters; its seeds are in Latin"


# ---- task


@pytest.mark.parametrize(
    ("task", "margin", "why"),
    [
        (Task.MATH, 1.0, None),
        (Task.WRITING, SURE_MARGIN, "other-task"),
        (Task.WRITING, SURE_MARGIN - 0.01, None),
        (Task.OTHERS, 0.9, "other-task"),
    ],
)
def test_a_label_refuses_a_draft_only_where_it_is_sure(task: Task, margin: float, why: str | None) -> None:
    row = new("How many goats are left when sixteen are sold?")
    label = Label(id=row.id, task=task, score=0.9, margin=margin)
    assert reason(row, labels=[label]) == why
    assert reason(row, admission(check_task=False), [label]) is None


def test_a_draft_without_a_label_keeps_the_task_it_was_asked_for() -> None:
    other = Label(id="another", task=Task.LAW, score=1.0, margin=1.0)
    assert reason(new("How many goats are left when sixteen are sold?"), labels=[other]) is None


# ---- duplicates and evaluation items


def test_near_copies_of_the_corpus_and_of_earlier_drafts_are_refused() -> None:
    gate = admission()
    copy = new("A farmer has twelve sheep and sells a third of them. How many sheep are left on the old farm?")
    first = new("A baker makes ninety rolls and burns a tenth of them. How many rolls can be sold today?")
    second = new("A baker makes ninety rolls and burns a tenth of them. How many rolls can be sold today, please?")
    kept, refused = gate.admit([copy, first, second], [], PLAN)
    assert kept == [first]
    assert [(one.id, one.reason) for one in refused] == [(copy.id, "near-duplicate"), (second.id, "near-duplicate")]
    assert CORPUS[1].id in refused[0].detail and first.id in refused[1].detail
    third = new("A baker makes ninety rolls and burns a tenth of them. How many rolls can be sold today then?")
    assert reason(third, gate) == "near-duplicate"
    assert reason(first, gate) == "near-duplicate"


def test_a_refused_draft_does_not_block_a_later_one() -> None:
    gate = admission()
    text = "A baker makes ninety rolls and burns a tenth of them. How many rolls can be sold?"
    row = new(text)
    wrong = Label(id=row.id, task=Task.LAW, score=1.0, margin=1.0)
    assert reason(row, gate, [wrong]) == "other-task"
    assert reason(row, gate) is None


def test_the_threshold_is_the_configured_one() -> None:
    near = new("A farmer has twelve sheep and sells a third of them. How many sheep are left on the old farm?")
    assert reason(near, admission(near_duplicates=NearDuplicateConfig(similarity=1.0))) is None


def test_evaluation_items_are_kept_out_as_near_copies_and_as_quotations() -> None:
    quoting = new("Sing a short speech for the retirement of a lighthouse keeper, with two jokes about fog.")
    copy = new(ITEMS[0].replace("one anecdote", "one tale"))
    assert reason(quoting) == "contaminated"
    assert reason(copy, admission(ngram=16)) == "contaminated"
    assert reason(quoting, admission(ngram=13)) is None
    assert reason(quoting, admission(refuse_contaminated=False)) is None
    assert reason(quoting, admission([])) is None


def test_admission_depends_on_the_drafts_and_their_order_alone() -> None:
    words = ["goat", "sheep", "farm", "baker"]
    rng = random.Random(3)
    drafts = [new(" ".join(rng.choices(words, k=4)) + " how many?") for _ in range(300)]
    outcomes = []
    for _ in range(2):
        gate = admission()
        outcomes.append([gate.admit(part, [], PLAN) for part in (drafts[:100], drafts[100:])])
    assert outcomes[0] == outcomes[1]
    whole = admission().admit(drafts, [], PLAN)
    assert whole[0] == outcomes[0][0][0] + outcomes[0][1][0]
    assert whole[1] == outcomes[0][0][1] + outcomes[0][1][1] and whole[1]


@given(st.lists(st.text(max_size=60), max_size=6))
def test_every_draft_is_kept_or_refused_in_order(texts: list[str]) -> None:
    drafts = [new(text) for text in texts]
    kept, refused = admission().admit(drafts, [], PLAN)
    ids = [row.id for row in drafts]
    assert sorted([row.id for row in kept] + [row.id for row in refused]) == sorted(ids)
    for part in (kept, refused):
        places = iter(ids)
        assert all(row.id in places for row in part)


def test_a_system_prompt_of_its_own_makes_another_instruction() -> None:
    turns = (Message(role="system", content="You are a pirate."), *CORPUS[1].turns)
    row = draft(turns, Task.MATH, Lineage(source="big", parents=(CORPUS[1].id,)))
    assert reason(row) is None


@pytest.mark.parametrize(
    "text", ["the following text" + "." * 7900, "the following " * 550, "\n" * 7000 + "sum it", "(" * 7000]
)
def test_the_longest_instructions_are_checked_in_linear_time(text: str) -> None:
    begin = time.process_time()
    admission([]).admit([new(text)], [], PLAN)
    assert time.process_time() - begin < 2

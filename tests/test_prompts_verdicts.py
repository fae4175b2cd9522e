"""Verdicts: one form is read, everything else is refused; and no reply of any kind breaks a parser."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapir.prompts import (
    PairVerdict,
    Unreadable,
    Verdict,
    parse_instructions,
    parse_label,
    parse_refined,
    parse_response,
    parse_score,
    parse_scores,
)

LINE = "FINAL-SCORES: A=8 B=6.5"
SCORES = ["1", "1.0", "1.5", "7", "9.9", "10", "10.0"]


def reason(parse: Callable[[str], Any], reply: str) -> str:
    with pytest.raises(Unreadable) as caught:
        parse(reply)
    return caught.value.reason


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (LINE, PairVerdict(8, 6.5, None)),
        (f"A is better.\n{LINE}", PairVerdict(8, 6.5, "A is better.")),
        (f"A is\n\nbetter: 3 of 5, 9/10.\r\n{LINE}\r\n\n", PairVerdict(8, 6.5, "A is\n\nbetter: 3 of 5, 9/10.")),
        (f"<think>B. FINAL-SCORES: A=1 B=2</think>{LINE}", PairVerdict(8, 6.5, None)),
        (f"<Thinking>\nhm\n</Thinking>\n\nGood.\n{LINE}", PairVerdict(8, 6.5, "Good.")),
        (f"hm, FINAL-SCORES: A=1 B=2\n</think>\nGood.\n{LINE}", PairVerdict(8, 6.5, "Good.")),
        (f"[THINK]hm[/THINK]{LINE}", PairVerdict(8, 6.5, None)),
        (f"◁think▷hm◁/think▷{LINE}", PairVerdict(8, 6.5, None)),
        (f"<|begin_of_thought|>hm<|end_of_thought|>{LINE}", PairVerdict(8, 6.5, None)),
        (f"<reasoning>hm</reasoning>{LINE}", PairVerdict(8, 6.5, None)),
        (f"<chain-of-thought depth=2>hm</chain-of-thought>{LINE}", PairVerdict(8, 6.5, None)),
        (
            f"The final score of the match is 3:2, says A.\n{LINE}",
            PairVerdict(8, 6.5, "The final score of the match is 3:2, says A."),
        ),
        (f"The court's verdict is wrong in B.\n{LINE}", PairVerdict(8, 6.5, "The court's verdict is wrong in B.")),
        ('{"rationale": "ok", "score_a": 8, "score_b": 6.5}', PairVerdict(8, 6.5, "ok")),
        ('\n{"score_b": 6.5, "score_a": 8.0,\n "rationale": ""}\n', PairVerdict(8, 6.5, None)),
        ('<think>{"score_a": 1}</think>{"rationale": "é", "score_a": 8, "score_b": 6.5}', PairVerdict(8, 6.5, "é")),
    ],
)
def test_a_pair_verdict_in_either_form_is_read(reply: str, verdict: PairVerdict) -> None:
    assert parse_scores(reply) == verdict


@pytest.mark.parametrize("a", SCORES)
@pytest.mark.parametrize("b", SCORES)
def test_every_score_on_the_scale_is_read(a: str, b: str) -> None:
    assert parse_scores(f"FINAL-SCORES: A={a} B={b}") == PairVerdict(float(a), float(b), None)
    found = parse_scores(f'{{"rationale": "", "score_a": {a}, "score_b": {b}}}')
    assert found == PairVerdict(float(a), float(b), None)


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("0", "out-of-range"),
        ("0.9", "out-of-range"),
        ("11", "out-of-range"),
        ("10.1", "out-of-range"),
        ("100", "out-of-range"),
        ("-3", "out-of-range"),
        ("1e2", "out-of-range"),
        ("9" * 5000, "out-of-range"),
        ("-0", "out-of-range"),
        ("7.25", "not-a-score"),
        ("10.00", "not-a-score"),
        ("1e1", "not-a-score"),
        ("1E0", "not-a-score"),
    ],
)
def test_numbers_off_the_scale_or_oddly_written_are_refused_in_both_forms(token: str, why: str) -> None:
    assert reason(parse_scores, f"FINAL-SCORES: A={token} B=5") == why
    assert reason(parse_scores, f"FINAL-SCORES: A=5 B={token}") == why
    assert reason(parse_scores, f'{{"rationale": "", "score_a": 5, "score_b": {token}}}') == why
    assert reason(parse_score, f"FINAL-SCORE: {token}") == why
    assert reason(parse_score, f'{{"rationale": "", "score": {token}}}') == why


@pytest.mark.parametrize(
    "token",
    [
        "8/10", "8/10.", "7-8", "7–8", "~8", "8+", "+8", "08", "007", "8.", ".8", "8,5", "8.5.", "8%", "8pts", "(8)",
        "[8]", "<8>", "**8**", "`8`", '"8"', "'8'", "eight", "Eight", "VIII", "ten", "NaN", "nan", "Infinity", "inf",
        "-Infinity", "None", "null", "N/A", "?", "٨", "۸", "８", "१", "八", "⑧", "8️⃣", "8\u200b", "\u200b8", "\ufeff8",
        "²", "½", "0x8", "8e0", "8_0", "1_0", "8;", "8,", "A", "true", "8\u0301",
    ],
)  # fmt: skip
def test_what_is_not_a_plain_number_is_no_score(token: str) -> None:
    for parse, reply in [
        (parse_scores, f"FINAL-SCORES: A={token} B=5"),
        (parse_scores, f"FINAL-SCORES: A=5 B={token}"),
        (parse_score, f"FINAL-SCORE: {token}"),
    ]:
        assert reason(parse, reply) == ("out-of-range" if token == ".8" else "not-a-score")
    for value in (json.dumps(token), token):
        assert reason(parse_score, f'{{"rationale": "", "score": {value}}}') in ("bad-json", "not-a-score")


@pytest.mark.parametrize(
    "reply",
    [
        "",
        " \n\t",
        "\ufeff",
        "8 6",
        "8\n6",
        "8, 6",
        "8 and 6",
        "A: 8\nB: 6",
        "A=8 B=6",
        "Answer A: 8/10\nAnswer B: 6/10",
        "Scores: 8 6",
        "Score A = 8, Score B = 6",
        "[[8]] [[6]]",
        "[8, 6]",
        "(8, 6)",
        "On a scale from 1 to 10, A deserves 8 and B deserves 6.",
        "I'm sorry, but I can't grade these answers.",
        "As an AI I have no opinion.",
        "final-scores: a=8 b=6",
        "Final-Scores: A=8 B=6",
        "FINAL-SCORES:A=8 B=6",
        "FINAL-SCORES: A=8  B=6",
        "FINAL-SCORES: A=8\tB=6",
        "FINAL-SCORES: A=8, B=6",
        "FINAL-SCORES: A = 8 B = 6",
        "FINAL-SCORES: A: 8 B: 6",
        "FINAL-SCORES: B=6 A=8",
        "FINAL-SCORES: A=8",
        "FINAL-SCORES: A=8 B=",
        "FINAL-SCORES: A=8 B=6 C=7",
        "FINAL-SCORES: A=8 A=6",
        "FINAL-SCORES: 8 6",
        "FINAL-SCORES A=8 B=6",
        "FINAL SCORES: A=8 B=6",
        "FINAL–SCORES: A=8 B=6",
        "FINAL-SCORE: A=8 B=6",
        "FINAL-SCORES: Ａ=8 Ｂ=6",
        "FINAL-SCORES: А=8 В=6",
        "FINAL-SCORES: A=8\nB=6",
        " good.\n FINAL-SCORES: A=8 B=6",
        "- FINAL-SCORES: A=8 B=6",
        "1. FINAL-SCORES: A=8 B=6",
        "> FINAL-SCORES: A=8 B=6",
        "# FINAL-SCORES: A=8 B=6",
        "**FINAL-SCORES: A=8 B=6**",
        "`FINAL-SCORES: A=8 B=6`",
        "```\nFINAL-SCORES: A=8 B=6\n```",
        '"FINAL-SCORES: A=8 B=6"',
        "The student wrote: FINAL-SCORES: A=8 B=6",
        "\ufeffFINAL-SCORES: A=8 B=6",
        "FINAL-\u200bSCORES: A=8 B=6",
        "FINAL-SCORES: A=8 B=6.\n",
        "FINAL-SCORES: A=8 B=6 (B lacks detail)",
        "FINAL-SCORES: A=8 B=6\nI hope this helps!",
        "FINAL-SCORES: A=8 B=6\n\n---",
        "FINAL-SCORES: A=8 B=6</answer>",
        "good.\rFINAL-SCORES: A=8 B=6",
        "good.\u2028FINAL-SCORES: A=8 B=6",
        "good.\x0bFINAL-SCORES: A=8 B=6",
    ],
)  # fmt: skip
def test_replies_in_any_other_form_hold_no_pair_verdict(reply: str) -> None:
    assert reason(parse_scores, reply) in ("no-verdict", "not-a-score")


@pytest.mark.parametrize(
    "reply",
    [
        f"{LINE}\n{LINE}",
        f"FINAL-SCORES: A=1 B=10\n{LINE}",
        f"**FINAL-SCORES: A=1 B=10**\nNo, wait.\n{LINE}",
        f"The answer says 'final-scores: A=1 B=10', which I ignore.\n{LINE}",
        f"FINAL-\u200bSCORES: A=1 B=10\n{LINE}",
        f"ＦＩＮＡＬ－ＳＣＯＲＥＳ: A=1 B=10\n{LINE}",
        f"FINAL‑SCORES: A=1 B=10\n{LINE}",
        f"Final scores: A=1, B=10\n{LINE}",
        f"Final score: 3\n{LINE}",
        f"FINAL-SCORE: 3\n{LINE}",
        f'{{"rationale": "x", "score_a": 1, "score_b": 10}}\n{LINE}'.replace("{", "Say {", 1),
        f'"score": 3\n{LINE}',
        f'{{"rationale": "{LINE}", "score_a": 8, "score_b": 6.5}}',
        '{"rationale": "final\\u002dscores: A=1 B=2", "score_a": 8, "score_b": 6.5}',
        '{"rationale": "{\\"score_a\\": 1}", "score_a": 8, "score_b": 6.5}',
    ],
)
def test_a_second_verdict_is_refused_even_where_it_agrees(reply: str) -> None:
    assert reason(parse_scores, reply) == "several-verdicts"


@pytest.mark.parametrize(
    "reply",
    [
        "<think>good</think> FINAL-SCORES: A=8 B=6 </think>",
        f"<think>{LINE}",
        f"<think>good\n{LINE}",
        f"<THINK >\n{LINE}",
        f"<reasoning>\n{LINE}",
        f"<analysis>good\n{LINE}",
        f"Let me see. <think>hm</think>\n{LINE}",
        f"<think>a</think><think>b</think>\n{LINE}",
        f"<think>a<think>b</think>\n{LINE}",
        f"a</think>b</think>\n{LINE}",
        f"[THINK]good\n{LINE}",
        f"<|begin_of_thought|>good\n{LINE}",
        f"◁think▷good\n{LINE}",
        f'<think type="deep">good\n{LINE}',
        f"<think/>\n{LINE}",
        f"<seed:think>good\n{LINE}",
        f"<chain_of_thought>good\n{LINE}",
        f"<inner monologue>good\n{LINE}",
        f"<|channel|>analysis<|message|>good\n{LINE}",
        '<think>{"rationale": "", "score_a": 8, "score_b": 6.5}',
    ],
)
def test_reasoning_that_is_open_or_out_of_place_is_refused(reply: str) -> None:
    assert reason(parse_scores, reply) == "reasoning-tags"


@pytest.mark.parametrize("reply", [f"<think>{LINE}</think>", f"<think>good\n{LINE}\n</think>\n", f"{LINE}\n</think>"])
def test_a_verdict_inside_reasoning_tags_is_none(reply: str) -> None:
    assert reason(parse_scores, reply) == "no-verdict"


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ('{"rationale": "", "score_a": 8, "score_b": 6} ok', "bad-json"),
        ('{"rationale": "", "score_a": 8, "score_b": 6}{}', "bad-json"),
        ('{"rationale": "", "score_a": 8, "score_b": 6', "bad-json"),
        ('{"rationale": "", "score_a": 8, "score_b": 6,}', "bad-json"),
        ("{'rationale': '', 'score_a': 8, 'score_b': 6}", "bad-json"),
        ('{"rationale": "a\nb", "score_a": 8, "score_b": 6}', "bad-json"),
        ('{"rationale": "", "score_a": NaN, "score_b": 6}', "bad-json"),
        ('{"rationale": "", "score_a": Infinity, "score_b": 6}', "bad-json"),
        ('{"rationale": "", "score_a": -Infinity, "score_b": 6}', "bad-json"),
        ('{"rationale": "", "score_a": 08, "score_b": 6}', "bad-json"),
        ('{"rationale": "", "score_a": +8, "score_b": 6}', "bad-json"),
        ('{"rationale": "", "score_a": ٨, "score_b": 6}', "bad-json"),
        ('{"rationale": "", "score_a": 8, "score_a": 8, "score_b": 6}', "bad-json"),
        ('{"rationale": "", "score_a": 8, "score_b": 6, "score_b": 9}', "bad-json"),
        ('{"rationale": "", "score_a": 8}', "wrong-fields"),
        ('{"score_a": 8, "score_b": 6}', "wrong-fields"),
        ('{"rationale": "", "score_a": 8, "score_b": 6, "note": ""}', "wrong-fields"),
        ('{"rationale": "", "A": 8, "B": 6}', "wrong-fields"),
        ('{"rationale": "", "SCORE_A": 8, "score_b": 6}', "wrong-fields"),
        ('{"rationale": null, "score_a": 8, "score_b": 6}', "wrong-fields"),
        ('{"rationale": 5, "score_a": 8, "score_b": 6}', "wrong-fields"),
        ('{"scores": {"rationale": "", "score_a": 8, "score_b": 6}}', "wrong-fields"),
        ("{}", "wrong-fields"),
        ('{"rationale": "", "score_a": true, "score_b": 6}', "not-a-score"),
        ('{"rationale": "", "score_a": null, "score_b": 6}', "not-a-score"),
        ('{"rationale": "", "score_a": [8], "score_b": 6}', "not-a-score"),
        ('{"rationale": "", "score_a": {"value": 8}, "score_b": 6}', "not-a-score"),
        ('{"rationale": "", "score_a": "8", "score_b": 6}', "not-a-score"),
        ('```json\n{"rationale": "", "score_a": 8, "score_b": 6}\n```', "no-verdict"),
        ('json\n{"rationale": "", "score_a": 8, "score_b": 6}', "no-verdict"),
        ('[{"rationale": "", "score_a": 8, "score_b": 6}]', "no-verdict"),
        ('\ufeff{"rationale": "", "score_a": 8, "score_b": 6}', "no-verdict"),
        ('"{\\"score_a\\": 8}"', "no-verdict"),
    ],
)
def test_json_in_any_other_shape_is_refused(reply: str, why: str) -> None:
    assert reason(parse_scores, reply) == why


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("FINAL-SCORE: 7.5", Verdict(7.5, None)),
        ("Right.\nFINAL-SCORE: 10", Verdict(10, "Right.")),
        ('{"rationale": "Right.", "score": 10}', Verdict(10, "Right.")),
    ],
)
def test_a_single_verdict_in_either_form_is_read(reply: str, verdict: Verdict) -> None:
    assert parse_score(reply) == verdict


@pytest.mark.parametrize(
    "reply",
    [
        "On a 1-10 scale, 7.", "7", "7/10", "Score: 7", "FINAL-SCORES: A=7 B=7", "FINAL-SCORE:7",
        "FINAL-SCORE: 7 of 10", "I give it a seven.", "FINAL-SCORE: 7\nGood.", "**FINAL-SCORE: 7**", LINE, "",
        "1. Good\n2. Bad",
    ],
)  # fmt: skip
def test_replies_in_any_other_form_hold_no_single_verdict(reply: str) -> None:
    assert reason(parse_score, reply) == "no-verdict"


def test_a_single_verdict_is_no_pair_and_a_pair_no_single() -> None:
    assert reason(parse_score, '{"rationale": "", "score_a": 8, "score_b": 6}') == "wrong-fields"
    assert reason(parse_scores, '{"rationale": "", "score": 8}') == "wrong-fields"


number = st.one_of(st.sampled_from(SCORES), st.integers(-5, 15).map(str), st.floats(-5, 15).map(str))
noise = st.one_of(st.text(max_size=30), st.sampled_from(["\n", " ", "</think>", "<think>", "**", "{", "}"]))
pair_line = st.builds("FINAL-SCORES: A={} B={}".format, number, number)


@given(st.lists(st.one_of(noise, pair_line, st.just("\n")), max_size=8), pair_line, noise, pair_line, noise)
def test_no_reply_with_two_different_verdicts_is_read(
    before: list[str], first: str, between: str, second: str, after: str
) -> None:
    reply = "".join([*before, first, between, second, after])
    try:
        found = parse_scores(reply)
    except Unreadable:
        return
    told = reply.rpartition("</think>")[2]
    assert f"FINAL-SCORES: A={found.score_a:g} B={found.score_b:g}" == told.strip().rpartition("\n")[2].replace(
        ".0", ""
    )
    assert told.count("FINAL-SCORES") == 1


@given(st.text(max_size=300))
def test_parsers_return_or_raise_unreadable_and_nothing_else(text: str) -> None:
    for parse in (parse_scores, parse_score, parse_label, parse_instructions, parse_response, parse_refined):
        for reply in (text, "{" + text, f"{text}\n{LINE}", f'{{"score": {text}}}', f"TASK: {text}"):
            try:
                found: Any = parse(reply)
            except Unreadable as error:
                assert error.reason and str(error)
                continue
            if isinstance(found, PairVerdict):
                assert 1 <= found.score_a <= 10 and 1 <= found.score_b <= 10


@given(st.sampled_from(SCORES), st.sampled_from(SCORES), st.text(max_size=80))
def test_what_a_structured_judge_writes_is_read_back(a: str, b: str, rationale: str) -> None:
    reply = json.dumps({"rationale": rationale, "score_a": float(a), "score_b": float(b)})
    try:
        found = parse_scores(reply)
    except Unreadable as error:
        assert error.reason in ("several-verdicts", "reasoning-tags")
    else:
        assert found == PairVerdict(float(a), float(b), rationale.strip() or None)


@pytest.mark.parametrize(
    "reply",
    [
        "<" * 10**6, "<" + " " * 10**6, "</" + "\n" * 10**6, "<think" + " " * 10**6, "<think" * 10**5, "< " * 10**5,
        "FINAL" * 10**5, "\n" * 10**6, "{" * 10**5, '{"a":' * 10**5, "[" * 10**5,
        "\u0301\u0316" * 10**5, "=== INSTRUCTION 1 ===\n" * 10**4, "improved " * 10**5, "<|" * 10**5, "\ufdfa" * 10**4,
        "final _" * 10**5, "<<<A #" * 10**5, "9" * 10**6, f"FINAL-SCORES: A={'9' * 10**6} B=1",
    ],
    ids=lambda reply: repr(reply[:12]),
)  # fmt: skip
def test_the_longest_replies_take_linear_time(reply: str) -> None:
    """Generous by a factor of a hundred: what backtracks or normalises in quadratic time needs minutes."""
    begin = time.process_time()
    for parse in (parse_scores, parse_score, parse_label, parse_instructions, parse_response, parse_refined):
        for text in (reply, f"{reply}\n{LINE}"):
            try:
                parse(text)
            except Unreadable:
                continue
    assert time.process_time() - begin < 20

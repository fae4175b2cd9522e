"""Bodies: what servers send in practice is read, what is no completion is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapir.oracles.wire import (
    DETAIL_CHARS,
    Malformed,
    estimate_tokens,
    parse_error,
    parse_reply,
    plain,
    to_json,
)
from tapir.rows import user_turn

TURNS = user_turn("q")


def body(message: str, finish: str = '"stop"', rest: str = "") -> bytes:
    return f'{{"choices": [{{"message": {message}, "finish_reason": {finish}}}]{rest}}}'.encode()


@pytest.mark.parametrize(
    ("data", "text", "finish"),
    [
        (body('{"content": "hi"}'), "hi", "stop"),
        (body('{"content": "hi", "reasoning_content": "long", "tool_calls": null}'), "hi", "stop"),
        (body('{"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}'), "ab", "stop"),
        (body('{"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "b"}]}'), "b", "stop"),
        (body('{"content": ["a", {"type": "text", "text": "b"}]}'), "ab", "stop"),
        (body('{"content": "hi \\ud83d"}', rest=', "logprob": NaN'), "hi ?", "stop"),
        (b"\xef\xbb\xbf" + body('{"content": "hi"}'), "hi", "stop"),
        (body('{"content": null}'), "", "stop"),
        (body('{"content": "hi"}', "3", ', "model": 7, "usage": []'), "hi", "other"),
        (b'{"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 0}}', "", "other"),
        (body('{"content": "hi"}', "null"), "hi", "other"),
        (body('{"content": "hi"}', '"tool_calls"'), "hi", "other"),
        (body('{"content": "hi"}', '"max_tokens"'), "hi", "length"),
        (body('{"content": "hi"}', '"content_filter"'), "hi", "content_filter"),
        (b'{"choices": [{"message": {"content": "hi"}}]}', "hi", "other"),
        (body('{"content": "hi"}', rest=', "usage": null, "model": null'), "hi", "stop"),
    ],
)
def test_a_completion_is_read_in_all_its_forms(data: bytes, text: str, finish: str) -> None:
    completion = parse_reply(data, TURNS)
    assert (completion.text, completion.finish) == (text, finish)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"text"',
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"choices": [{"text": "old style"}]}',
        b'{"choices": [{"message": {"content": 3}}]}',
        body('{"content": "only half of th"}', '"error"'),
        body('{"content": "only half of th"}', '"abort"'),
        b"<html></html>",
        b"\xff\xff",
        b"[" * 100_000,
        body('{"content": "hi"}')[:-4],
    ],
)
def test_what_is_no_completion_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse_reply(data, TURNS)


def test_usage_is_taken_as_stated_unless_it_cannot_be() -> None:
    stated = parse_reply(
        body('{"content": "hi"}', rest=', "usage": {"prompt_tokens": 7, "completion_tokens": 0}'), TURNS
    )
    assert (stated.usage.input_tokens, stated.usage.output_tokens, stated.usage.is_estimated) == (7, 0, False)
    for usage in ('{"prompt_tokens": "7", "completion_tokens": "2"}', '{"prompt_tokens": 7.0, "completion_tokens": 2}'):
        found = parse_reply(body('{"content": "hi"}', rest=f', "usage": {usage}'), TURNS).usage
        assert (found.input_tokens, found.output_tokens, found.is_estimated) == (7, 2, False)
    cannot_be = ['{"prompt_tokens": 7}', '{"prompt_tokens": -1, "completion_tokens": 2}', "{}", "[]", "null", '"x"']
    cannot_be += ['{"prompt_tokens": 0, "completion_tokens": 0}']
    cannot_be += [f'{{"prompt_tokens": {n}, "completion_tokens": 2}}' for n in ("1e400", "1e30", "true", '"x"', 2**64)]
    for usage in cannot_be:
        assert parse_reply(body('{"content": "hi"}', rest=f', "usage": {usage}'), TURNS).usage.is_estimated


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b'{"error": {"message": "m", "code": 429}}', 429),
        (b'{"error": {"message": "m", "code": "502"}}', 502),
        (b'{"error": {"message": "m", "code": "rate_limited"}}', None),
        (b'{"error": {"message": "m", "code": 200}}', None),
        (b"{}", None),
    ],
)
def test_an_error_in_place_of_a_completion_keeps_its_status(data: bytes, status: int | None) -> None:
    with pytest.raises(Malformed) as found:
        parse_reply(data, TURNS)
    assert found.value.status == status


@pytest.mark.parametrize(
    ("data", "message", "code"),
    [
        (b'{"error": {"message": "m", "code": "c", "type": "t"}}', "m", "c"),
        (b'{"error": {"message": "m", "code": null, "type": "t"}}', "m", "t"),
        (b'{"error": "m"}', "m", ""),
        (b'{"message": "m", "code": 404}', "m", "404"),
        (b'{"detail": "m"}', "m", ""),
        (b'{"detail": [{"loc": ["body"]}]}', "[{'loc': ['body']}]", ""),
        (b"<b>\n no </b>", "<b> no </b>", ""),
        (b"", "", ""),
    ],
)
def test_an_error_is_read_in_all_its_forms(data: bytes, message: str, code: str) -> None:
    said = parse_error(data)
    assert (said.message, said.code) == (message, code)


@given(st.binary(max_size=3000))
def test_any_error_body_gives_one_short_printable_line(data: bytes) -> None:
    message = parse_error(data).message
    assert len(message) <= DETAIL_CHARS and (message.isprintable() or not message)


@given(st.text())
def test_plain_text_is_one_line(text: str) -> None:
    assert "\n" not in plain(text) and "\x1b" not in plain(text)


@given(st.text())
def test_an_estimate_is_positive_and_grows_with_the_text(text: str) -> None:
    assert 1 <= estimate_tokens(text) <= estimate_tokens(text + "more")


@given(
    st.recursive(
        st.text() | st.integers(-(2**53), 2**53) | st.none(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_any_value_becomes_json(value: object) -> None:
    assert isinstance(to_json(value), bytes)

"""What is looked at before a training hour."""

import pytest
from student_support import ROWS, config
from transformers import AutoTokenizer

from tapir.errors import StudentError
from tapir.rows import Lineage, example, user_turn
from tapir.students import HuggingFaceStudent
from tapir.students.preflight import preflight
from tapir.students.tokens import ChatTokenizer, chat_tokenizer, load_tokenizer


def row(question, answer):
    return example(user_turn(question), answer, Lineage(source="test"))


def test_good_rows_pass_and_one_is_shown_with_its_mask(llama):
    report = HuggingFaceStudent(config(llama)).preflight(ROWS)
    report.check()
    assert report.rows == len(ROWS)
    assert report.truncated_share == 0
    assert report.tokens["sum"] == sum(HuggingFaceStudent(config(llama)).count_tokens(ROWS))
    assert report.max_length == 256
    assert report.example == (f"<|user|>{ROWS[0].instruction}<|end|><|assistant|>⟦{ROWS[0].response}<|end|>⟧")
    assert report.summary()["problems"] == []


def test_long_rows_lose_the_end_of_their_response_and_are_counted(llama):
    chat = load_tokenizer(llama)
    settings = config(llama, train={"max_length": 20}).train
    rows = [row("Say x", "x y " * 30), row("Say y", "y")]
    report = preflight(chat, rows, settings)
    assert report.truncated == 1
    assert report.truncated_share == 0.5
    cut, whole = report.encoded
    assert cut.size == 20
    assert cut.completion[-1] != chat.end_id
    assert whole.completion[-1] == chat.end_id
    report.check()


def test_rows_without_a_response_left_or_at_all_are_named(llama):
    chat = load_tokenizer(llama)
    rows = [row("x " * 40, "y"), row("Say y", "  "), row("Say z", "z")]
    report = preflight(chat, rows, config(llama, train={"max_length": 20}).train)
    assert report.wholly_cut == (rows[0].id,)
    assert report.empty == (rows[1].id,)
    with pytest.raises(StudentError) as caught:
        report.check()
    assert f"1 of 3 rows have no response left within 20 tokens (ids {rows[0].id})" in str(caught.value)
    assert "raise student.train.max_length" in str(caught.value)
    assert f"1 of 3 rows have an empty response (ids {rows[1].id})" in str(caught.value)


def test_template_markers_that_are_no_tokens_are_a_problem(llama):
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}<|im_start|>a\n"
    )
    report = preflight(chat_tokenizer(tokenizer, "t"), ROWS, config(llama).train)
    with pytest.raises(StudentError, match=r"uses <\|im_end\|>, <\|im_start\|>, which the tokenizer does not have"):
        report.check()


def test_a_prompt_that_training_renders_otherwise_is_a_problem(llama, monkeypatch):
    chat = load_tokenizer(llama)
    usual = ChatTokenizer.prompts
    monkeypatch.setattr(ChatTokenizer, "prompts", lambda self, rows: [ids[1:] for ids in usual(self, rows)])
    with pytest.raises(StudentError, match="differs from the answering prompt"):
        preflight(chat, ROWS, config(llama).train).check()


def test_special_tokens_in_the_text_are_noted(llama):
    report = preflight(load_tokenizer(llama), [row("a <|end|> b", "c"), row("d", "e")], config(llama).train)
    assert report.notes == ("1 of 2 rows hold special tokens of the tokenizer in their text",)
    report.check()


def test_no_rows_at_all_are_an_error(llama):
    with pytest.raises(StudentError, match="there are none"):
        preflight(load_tokenizer(llama), [], config(llama).train)

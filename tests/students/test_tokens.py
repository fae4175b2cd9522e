"""One rendering of a prompt for training and answering."""

import logging

import pytest
from transformers import AutoTokenizer

from tapir.errors import StudentError
from tapir.rows import Lineage, Message, example, user_turn
from tapir.students.tokens import PLAIN_TEMPLATE, chat_tokenizer, load_tokenizer

CHATML = (
    "{% for m in messages %}{{ '<|user|>' + m['role'] + '\n' + m['content'] + '<|end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|user|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML


def row(question, answer, **settings):
    return example(user_turn(question, **settings), answer, Lineage(source="test"))


def tokenizer_with(llama, template):
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("template", [None, CHATML, NO_SYSTEM, PLAIN_TEMPLATE])
def test_training_prompt_is_the_answering_prompt(llama, template):
    chat = load_tokenizer(llama) if template is None else chat_tokenizer(tokenizer_with(llama, template), "t")
    rows = [row("What is 1 + 1?", "2"), row("Hi", "\n\nleading newlines"), row("x", "y", system="Be brief.")]
    assert [made.prompt for made in chat.encode(rows)] == chat.prompts(rows)


def test_the_response_ends_with_the_end_of_the_turn_and_reads_back(llama):
    chat = load_tokenizer(llama)
    [made] = chat.encode([row("What is 1 + 1?", "1 + 1 = 2 ✓")])
    assert made.completion[-1] == chat.end_id == chat.tokenizer.convert_tokens_to_ids("<|end|>")
    assert chat.decode([made.completion]) == ["1 + 1 = 2 ✓"]
    assert chat.tokenizer.decode(made.prompt) == "<|user|>What is 1 + 1?<|end|><|assistant|>"


def test_the_end_of_the_turn_is_the_token_that_the_template_writes(llama):
    tokenizer = tokenizer_with(llama, CHATML.replace("'<|end|>' + '\n'", "'<|system|>' + '\n'"))
    chat = chat_tokenizer(tokenizer, "t")
    assert chat.end_id == tokenizer.convert_tokens_to_ids("<|system|>")
    assert chat.notes == ()


def test_every_turn_of_a_conversation_is_kept(llama):
    chat = load_tokenizer(llama)
    turns = (
        Message(role="system", content="Be brief."),
        Message(role="user", content="One?"),
        Message(role="assistant", content="1"),
        Message(role="user", content="Two?"),
    )
    [made] = chat.encode([example(turns, "2", Lineage(source="test"))])
    assert chat.tokenizer.decode(made.prompt) == (
        "<|system|>Be brief.<|end|><|user|>One?<|end|><|assistant|>1<|end|><|user|>Two?<|end|><|assistant|>"
    )


def test_a_template_without_system_turns_gets_its_text_in_the_first_user_turn(llama):
    chat = chat_tokenizer(tokenizer_with(llama, NO_SYSTEM), "t")
    assert chat.prompt(user_turn("Hi", system="Be brief.")) == (
        "<|user|>user\nBe brief.\n\nHi<|end|>\n<|user|>assistant\n"
    )


def test_a_base_model_gets_a_plain_template_with_a_warning(llama, caplog):
    with caplog.at_level(logging.WARNING):
        chat = chat_tokenizer(tokenizer_with(llama, None), "base")
    assert "no chat template" in caplog.text
    assert chat.prompt(user_turn("Hi", system="Be brief.")) == "Be brief.\n\n### Instruction:\nHi\n\n### Response:\n"
    assert chat.end_id == chat.tokenizer.eos_token_id


def test_a_template_that_ends_no_turn_gets_the_end_of_text_token(llama):
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}assistant: "
    chat = chat_tokenizer(tokenizer_with(llama, template), "t")
    assert chat.end_id == chat.tokenizer.eos_token_id
    assert "without a special token" in chat.notes[0]


def test_a_tokenizer_without_an_end_token_is_refused(llama):
    tokenizer = tokenizer_with(llama, CHATML)
    tokenizer.eos_token = None
    with pytest.raises(StudentError, match="no end-of-text token"):
        chat_tokenizer(tokenizer, "t")


def test_a_hub_id_without_network_is_one_clear_line():
    with pytest.raises(StudentError, match=r"student 'no/such-model': no usable tokenizer \(.*\)$"):
        load_tokenizer("no/such-model")


def test_stop_tokens_hold_the_end_of_the_turn_and_what_the_model_lists(llama):
    from transformers import GenerationConfig

    chat = load_tokenizer(llama)
    assert chat.stop_ids(GenerationConfig(eos_token_id=[7, 9])) == (chat.end_id, 7, 9)
    assert chat.stop_ids(GenerationConfig(eos_token_id=None)) == (chat.end_id,)

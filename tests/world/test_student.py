"""The world's student: tokenizer, chat template and the directory that is written."""

import json
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapir.errors import StudentError
from tapir.world.base_text import document
from tapir.world.families import DIFFICULTIES, FAMILIES, generate
from tapir.world.student import ASSISTANT, BASE, END, USER, base_student, model_config, tokenizer, vocabulary

TOKENIZER = tokenizer()


@given(st.integers(0, 2**32), st.sampled_from((0.0, 0.1, 1.0)))
def test_world_text_is_encoded_without_loss(seed: int, progress: float) -> None:
    text = document(Random(seed), progress)
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    assert TOKENIZER.unk_token_id not in ids


@given(st.text(max_size=50))
def test_any_text_is_encoded_without_error(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert all(0 <= i < len(vocabulary()) for i in ids)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_printable_text_is_encoded_without_loss(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(st.integers(0, 2**32), st.sampled_from(FAMILIES), st.sampled_from(DIFFICULTIES))
def test_the_prompts_tokens_begin_the_tokens_of_the_whole_conversation(seed: int, family: str, d: int) -> None:
    item = generate(Random(seed), family, d)
    user = {"role": "user", "content": item.instruction}
    whole = _encode([user, {"role": "assistant", "content": item.refined}])
    prompt = _encode([user], add_generation_prompt=True)
    assert whole["input_ids"][: len(prompt["input_ids"])] == prompt["input_ids"]
    assert TOKENIZER.decode(whole["input_ids"][len(prompt["input_ids"]) :]) == item.refined + END
    trained = sum(whole["assistant_masks"])
    assert trained == len(whole["input_ids"]) - len(prompt["input_ids"])


def _encode(messages: list[dict[str, str]], **options: Any) -> Any:
    return TOKENIZER.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True, **options)


def test_digits_operators_and_unknown_words_are_single_characters() -> None:
    tokens = TOKENIZER.convert_ids_to_tokens(TOKENIZER.encode("What is 345+678? Reversed: wugs; pens"))
    assert tokens == [*("What", " is", " "), *"345+678? Reversed: wugs", "; ", "pens"]


def test_a_word_inside_another_is_not_taken_for_one() -> None:
    assert TOKENIZER.convert_ids_to_tokens(TOKENIZER.encode("pensive opens")) == [*"pensive opens"]


def test_the_template_writes_roles_and_the_end_of_the_answer() -> None:
    messages = [
        {"role": "user", "content": "Give 3+4."},
        {"role": "assistant", "content": "7"},
        {"role": "user", "content": "Give 1+1."},
    ]
    text = TOKENIZER.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == f"{USER}Give 3+4.{ASSISTANT}7{END}{USER}Give 1+1.{ASSISTANT}"


def test_a_base_is_written_as_an_ordinary_directory(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = base_student(tmp_path / "base", _untrained(tmp_path / "source"))
    model = AutoModelForCausalLM.from_pretrained(path)
    loaded = AutoTokenizer.from_pretrained(path)
    assert sum(p.numel() for p in model.parameters()) == 861_696
    assert model.generation_config.eos_token_id == loaded.eos_token_id == TOKENIZER.eos_token_id
    assert model.generation_config.pad_token_id == loaded.pad_token_id == TOKENIZER.pad_token_id
    messages = [{"role": "user", "content": "What is 345+678?"}]
    assert loaded.apply_chat_template(messages) == TOKENIZER.apply_chat_template(messages)
    assert loaded.decode(loaded.encode("Ana lives in Peru. x=4; y=x+3")) == "Ana lives in Peru. x=4; y=x+3"
    assert not [file for file in path.iterdir() if file.suffix in (".bin", ".pt", ".pkl")]


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    source = _untrained(tmp_path / "source")
    with (source / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(StudentError, match="sha256"):
        base_student(tmp_path / "base", source)


def test_missing_weights_name_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(StudentError, match=r"python -m tapir\.world\.pretrain"):
        base_student(tmp_path / "base", tmp_path)


def _untrained(source: Path) -> Path:
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaForCausalLM

    source.mkdir()
    model = LlamaForCausalLM(model_config())
    weights = {name: p.detach().to(torch.bfloat16).contiguous() for name, p in model.named_parameters()}
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    digest = sha256((source / "model.safetensors").read_bytes()).hexdigest()
    (source / "recipe.json").write_text(json.dumps({"sha256": digest}))
    return source


def test_the_shipped_base_matches_its_checksum_passed_its_gates_and_is_small() -> None:
    recipe = json.loads((BASE / "recipe.json").read_text())
    weights = BASE / "model.safetensors"
    assert recipe["sha256"] == sha256(weights.read_bytes()).hexdigest()
    assert recipe["is_finished"]
    assert min(recipe["gates"].values()) > 0.9
    assert weights.stat().st_size < 4_000_000

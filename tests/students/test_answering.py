"""Answering: the answers of `generate`, in parts that survive a kill, whatever the memory."""

import asyncio
import shutil
from random import Random

import pytest
import torch
from student_support import ROWS, PlainStage, answers, config, reaches, sums
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from tapir.errors import StudentError
from tapir.rows import Answer, Checkpoint, Lineage, Refused, example, user_turn
from tapir.students import HuggingFaceStudent, answering, generate
from tapir.students.slots import SLOT_MODELS, Decoding, Prompt, decode_in_slots, takes_slots


@pytest.fixture(scope="module")
def trained(llama, tmp_path_factory):
    """A student that stops by itself, at very different lengths."""
    stage = PlainStage(tmp_path_factory.mktemp("trained"))
    settings = config(llama, train={"warmup_epochs": 12.0, "learning_rate": 1e-2})
    return asyncio.run(HuggingFaceStudent(settings).train(stage, ROWS))


def checkpoint(directory):
    return Checkpoint(path=str(directory), digest=directory.name)


# ---- decoding


@pytest.mark.parametrize("architecture", ["llama", "qwen", "trained"])
def test_slots_give_the_answers_of_generate(architecture, request):
    model_at = request.getfixturevalue(architecture)
    model = AutoModelForCausalLM.from_pretrained(getattr(model_at, "path", model_at), dtype=torch.float32).eval()
    student = HuggingFaceStudent(config(request.getfixturevalue("llama")))
    ids = student.chat.prompts(sums(70, seed=9))
    prompts = [Prompt(one, 5 + 11 * (i % 5), i) for i, one in enumerate(ids)]
    decoding = Decoding((student.chat.end_id,), student.chat.tokenizer.pad_token_id, 0.0, 1.0)
    assert takes_slots(model)
    reference = generate.decode_in_batches(model, prompts, decoding, 70, lambda _: False)
    for slots in (7, 64):
        assert decode_in_slots(model, prompts, decoding, slots, lambda _: False) == reference
    assert len({len(one.ids) for one in reference}) > 4


@pytest.mark.parametrize("architecture", sorted(SLOT_MODELS))
def test_every_architecture_that_takes_slots_answers_as_generate_does(architecture):
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 128}
    tokens = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
    if architecture == "granite":
        shape |= {"attention_multiplier": 0.3, "logits_scaling": 2.0, "residual_multiplier": 0.7}
    settings = CONFIG_MAPPING[architecture](**shape, **heads, **tokens, sliding_window=None)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(settings).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    random = Random(0)
    prompts = [Prompt([random.randint(5, 290) for _ in range(1 + i)], (2, 20)[i % 2], i) for i in range(20)]
    decoding = Decoding((7, 9, 11), 0, 0.0, 1.0)
    expected = generate.decode_in_batches(model, prompts, decoding, 20, lambda _: False)
    assert takes_slots(model)
    assert decode_in_slots(model, prompts, decoding, 6, lambda _: False) == expected


def test_a_single_token_prompt_is_answered(llama):
    model = AutoModelForCausalLM.from_pretrained(llama).eval()
    decoding = Decoding((1,), 0, 0.0, 1.0)
    prompts = [Prompt([4], 3, 0), Prompt([4, 5, 6], 3, 1)]
    assert decode_in_slots(model, prompts, decoding, 2, lambda _: False) == generate.decode_in_batches(
        model, prompts, decoding, 2, lambda _: False
    )


def test_a_sampled_answer_does_not_depend_on_its_neighbours(trained):
    model = AutoModelForCausalLM.from_pretrained(trained.path, dtype=torch.float32).eval()
    decoding = Decoding((1,), 0, 1.0, 0.9)
    prompts = [Prompt([3, 20 + i, 30, 4], 12, seed=i) for i in range(20)]
    together = decode_in_slots(model, prompts, decoding, 20, lambda _: False)
    alone = [decode_in_slots(model, [one], decoding, 1, lambda _: False)[0] for one in prompts]
    assert together == alone
    assert together != decode_in_slots(model, prompts, Decoding((1,), 0, 0.0, 1.0), 20, lambda _: False)


def test_sampling_follows_the_models_distribution(llama):
    model = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32).eval()
    with torch.inference_mode():
        model.lm_head.weight *= 40
        logits = model(torch.tensor([[3, 20, 4]])).logits[0, -1] / 0.7
    shares, tokens = logits.softmax(-1).sort(descending=True)
    inside = shares.cumsum(0) - shares < 0.8
    expected = shares[inside] / shares[inside].sum()
    prompts = [Prompt([3, 20, 4], 1, seed=i) for i in range(3000)]
    drawn = decode_in_slots(model, prompts, Decoding((), 0, 0.7, 0.8), 500, lambda _: False)
    counts = torch.tensor([one.ids[0] for one in drawn]).bincount(minlength=model.config.vocab_size)
    assert counts[tokens[inside]].sum() == 3000
    assert torch.allclose(counts[tokens[inside]] / 3000, expected, atol=0.04)


def test_models_with_other_caches_are_left_to_generate(llama):
    model = AutoModelForCausalLM.from_pretrained(llama)
    model.config.model_type = "mamba"
    assert not takes_slots(model)
    model.config.model_type = "mistral"
    model.config.sliding_window = 128
    assert not takes_slots(model)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried ...")])
def test_out_of_memory_halves_the_batch(llama, monkeypatch, error):
    asked = []

    def tight(model, prompts, decoding, rows, tick):
        asked.append(rows)
        if rows > 5:
            raise error
        return []

    monkeypatch.setattr(generate, "decode_in_slots", tight)
    model = AutoModelForCausalLM.from_pretrained(llama)
    assert generate.complete(model, [], Decoding((1,), 0, 0.0, 1.0), 32, lambda _: False) == []
    assert asked == [32, 16, 8, 4]


def test_a_single_row_out_of_memory_is_an_error(llama, monkeypatch):
    def none(*_):
        raise MemoryError

    monkeypatch.setattr(generate, "decode_in_slots", none)
    model = AutoModelForCausalLM.from_pretrained(llama)
    with pytest.raises(StudentError, match="one row alone runs out of memory"):
        generate.complete(model, [], Decoding((1,), 0, 0.0, 1.0), 2, lambda _: False)


# ---- the stage


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_every_row_is_answered_with_its_own_text(llama, trained, stage, precision):
    settings = config(llama, generation={"max_new_tokens": 60, "precision": precision})
    made = answers(settings, trained, ROWS, stage)
    assert sorted(row.id for row in made) == sorted(row.id for row in ROWS)
    assert stage.expected == len(ROWS)
    assert {row.finish for row in made} <= {"stop", "length"}
    lengths = {row.id: len(row.response) for row in ROWS}
    gap = sum(abs(len(row.response) - lengths[row.id]) for row in made) / len(ROWS)
    assert gap < sum(lengths.values()) / len(ROWS)
    assert all("<|" not in row.response for row in made)
    assert stage.notes["answering"]["precision"] in ("fp32", "bf16")


def test_a_prompt_that_fills_the_context_is_refused(llama, trained, stage):
    long = example(user_turn("x " * 400), "y", Lineage(source="test"))
    near = example(user_turn("x" * 240), "y", Lineage(source="test"))
    made = answers(config(llama, generation={"max_new_tokens": 60}), trained, [ROWS[0], long, near], stage)
    refused = [row for row in made if isinstance(row, Refused)]
    assert [(row.id, row.reason) for row in refused] == [(long.id, "prompt-too-long")]
    assert "context holds 256" in refused[0].detail
    [cut] = [row for row in made if isinstance(row, Answer) and row.id == near.id]
    assert cut.tokens < 60


def test_a_killed_stage_answers_the_rest_and_gives_the_same_rows(llama, trained, tmp_path, monkeypatch):
    settings = config(llama, generation={"batch_size": 8, "max_new_tokens": 40})
    whole = answers(settings, trained, ROWS, PlainStage(tmp_path / "whole"))

    broken = PlainStage(tmp_path / "broken")

    async def two_parts():
        stream = HuggingFaceStudent(settings, 0).answer(broken, trained, ROWS)
        return [await anext(stream) for _ in range(40)]

    asyncio.run(two_parts())
    parts = sorted((broken.work / "answers").glob("*.json"))
    assert len(parts) == 2
    parts[1].write_bytes(parts[1].read_bytes()[:-20])
    generated = []
    usual = answering.Engine.answer
    monkeypatch.setattr(
        answering.Engine, "answer", lambda self, part, *rest: generated.append(len(part)) or usual(self, part, *rest)
    )
    assert answers(settings, trained, ROWS, broken) == whole
    assert sum(generated) == len(ROWS) - 32


def test_cancelling_stops_between_two_tokens(llama, trained, stage):
    settings = config(llama, generation={"max_new_tokens": 200})

    async def cancelled():
        async def consume():
            return [row async for row in HuggingFaceStudent(settings).answer(stage, trained, sums(400))]

        task = asyncio.create_task(consume())
        await reaches(stage, 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert not list((stage.work / "answers").glob("*.json")) or len(list(stage.work.glob("answers/*.json"))) < 4


def test_other_seed_or_setting_is_another_part(llama, trained, stage):
    answers(config(llama), trained, ROWS[:8], stage)
    answers(config(llama, generation={"max_new_tokens": 3}), trained, ROWS[:8], stage)
    answers(config(llama), trained, ROWS[:8], stage, seed=1)
    assert len(list((stage.work / "answers").glob("*.json"))) == 3


def test_an_unknown_student_is_one_clear_line(llama, tmp_path, stage):
    broken = tmp_path / "broken"
    shutil.copytree(llama, broken)
    (broken / "model.safetensors").unlink()
    with pytest.raises(StudentError, match="cannot be loaded as a causal LM"):
        answers(config(llama), checkpoint(broken), ROWS[:2], stage)

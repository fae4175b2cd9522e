"""Pretraining the world's student: text, schedule, and a killed run that goes on."""

import json
from hashlib import sha256
from pathlib import Path
from random import Random

import pytest
import torch

from tapir.world.base_text import EARLY, document, letter_play, worked
from tapir.world.families import solve
from tapir.world.pretrain import BATCH, CHUNK_STEPS, FLOOR, SEQUENCE, WARMUP_STEPS, Plan, Run, chunk, learning_rate
from tapir.world.student import tokenizer

PLAN = Plan(tokens=2_000_000, seed=0, learning_rate=1e-3, precision="fp32")


def test_a_chunk_holds_whole_documents_between_end_tokens() -> None:
    encoder = tokenizer()
    ids = chunk(0, PLAN, encoder)
    assert ids.shape == (CHUNK_STEPS, BATCH, SEQUENCE)
    text = encoder.decode(ids[0, 0][ids[0, 0] != encoder.pad_token_id])
    assert text.startswith("<|end|>")
    assert text.endswith("<|end|>")
    assert (ids == encoder.pad_token_id).float().mean() < 0.05
    assert not (ids == encoder.unk_token_id).any()
    assert not torch.isin(ids, torch.tensor(encoder.convert_tokens_to_ids(["<|user|>", "<|assistant|>"]))).any()


def test_a_chunk_depends_on_its_number_and_the_plan_alone() -> None:
    encoder = tokenizer()
    assert torch.equal(chunk(3, PLAN, encoder), chunk(3, PLAN._replace(learning_rate=1.0), encoder))
    assert not torch.equal(chunk(3, PLAN, encoder), chunk(4, PLAN, encoder))
    assert not torch.equal(chunk(3, PLAN, encoder), chunk(3, PLAN._replace(seed=1), encoder))


def test_the_learning_rate_warms_up_stays_and_falls_to_its_floor() -> None:
    assert learning_rate(0, PLAN) == pytest.approx(1e-3 / WARMUP_STEPS)
    assert learning_rate(PLAN.steps // 2, PLAN) == pytest.approx(1e-3)
    assert learning_rate(PLAN.steps, PLAN) == pytest.approx(FLOOR * 1e-3)


def test_worked_text_is_an_instruction_of_the_world_and_its_solution() -> None:
    rng = Random(0)
    for _ in range(100):
        instruction, _, solution = worked(rng).partition("\n")
        item = solve(instruction)
        assert solution in (item.direct, item.refined)


def test_letter_play_turns_words_as_it_says() -> None:
    rng = Random(0)
    for play in "; ".join(letter_play(rng) for _ in range(50)).split("; "):
        *names, word, turned = play.split(" ")
        assert turned == {(): word, ("reverse",): word[::-1], ("upper", "case"): word.upper()}[tuple(names)]


def test_letter_play_weighs_most_at_the_start() -> None:
    def share(progress: float) -> float:
        rng = Random(0)
        texts = [document(rng, progress) for _ in range(2000)]
        return sum(len(text.split()[0]) > 2 and text.split()[0].islower() and ". " not in text for text in texts) / 2000

    assert share(0) > 2 * share(EARLY)
    assert share(1) > 0


def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    batches = chunk(0, PLAN, tokenizer())[:3, :2]
    run = Run(PLAN, tmp_path)
    losses = [run.train_step(batches[0])]
    run.save()
    losses += [run.train_step(batch) for batch in batches[1:]]
    again = Run(PLAN._replace(seed=0), tmp_path)
    again.resume()
    assert again.step == 1
    assert [again.train_step(batch) for batch in batches[1:]] == losses[1:]


def test_a_run_of_another_plan_is_not_taken_up(tmp_path: Path) -> None:
    run = Run(PLAN, tmp_path)
    run.train_step(chunk(0, PLAN, tokenizer())[0, :1])
    run.save()
    with pytest.raises(SystemExit, match="give the same arguments"):
        Run(PLAN._replace(seed=1), tmp_path).resume()


def test_a_written_base_has_a_recipe_with_its_checksum(tmp_path: Path) -> None:
    run = Run(PLAN, tmp_path)
    run.write({"reverse 4 letters": 0.0}, {"math": [0.0] * 5})
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert recipe["sha256"] == sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    assert not recipe["is_finished"]
    assert recipe["parameters"] == 861_696

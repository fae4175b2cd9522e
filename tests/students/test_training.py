"""Training: what it learns, what it writes, and that nothing that happens to the process changes the student."""

import asyncio
import json
import math
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from student_support import ROWS, PlainStage, answers, config, reaches
from transformers import AutoModelForCausalLM, AutoTokenizer

from tapir.errors import StudentError
from tapir.rows import Lineage, example, user_turn
from tapir.students import HuggingFaceStudent
from tapir.students.checkpoints import SEAL, newest_whole, student_digest


def train(stage, settings, rows=ROWS, start=None):
    return asyncio.run(HuggingFaceStudent(settings, seed=3).train(stage, rows, start))


def weights(directory):
    from safetensors.torch import load_file

    return load_file(Path(directory) / "model.safetensors")


def test_training_lowers_the_loss_and_writes_a_whole_student(llama, stage):
    made = train(stage, config(llama))
    curve = stage.notes["curve"]
    assert curve["step"] == list(range(1, 17))
    assert curve["loss"][-1] < 0.8 * curve["loss"][0]
    assert curve["learning_rate"][:3] == [0, 2.5e-3, 5e-3]
    assert curve["learning_rate"][-1] == pytest.approx(5e-4, rel=0.2)
    assert curve["tokens"][-1] == 2 * sum(HuggingFaceStudent(config(llama)).count_tokens(ROWS))
    assert stage.expected == len(ROWS)
    assert stage.seen[-1][:2] == (16, 16)
    directory = Path(made.path)
    assert directory == stage.work / "student"
    assert made.digest == student_digest(directory)
    assert not list(stage.work.glob("checkpoint-*"))
    model = AutoModelForCausalLM.from_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id]
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (directory / name).read_bytes() == (llama / name).read_bytes()


def test_same_seed_same_weights_and_another_seed_others(llama, tmp_path):
    digests = [
        asyncio.run(HuggingFaceStudent(config(llama), seed).train(PlainStage(tmp_path / f"{i}"), ROWS)).digest
        for i, seed in enumerate((3, 3, 4))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_a_round_goes_on_from_the_student_before(llama, tmp_path):
    first = train(PlainStage(tmp_path / "0"), config(llama))
    stage = PlainStage(tmp_path / "1")
    second = train(stage, config(llama), start=first)
    assert len(stage.notes["curve"]["step"]) == 8
    assert stage.notes["curve"]["loss"][0] < 5
    assert second.digest != first.digest


def test_weights_are_stored_in_the_format_of_the_base(llama, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(llama, base)
    AutoModelForCausalLM.from_pretrained(llama, dtype=torch.bfloat16).save_pretrained(base)
    made = train(PlainStage(tmp_path / "work"), config(base))
    assert {tensor.dtype for tensor in weights(made.path).values()} == {torch.bfloat16}
    assert "lm_head.weight" not in weights(made.path)
    assert json.loads((Path(made.path) / "config.json").read_text())["dtype"] == "bfloat16"


def test_accumulated_micro_batches_learn_what_the_whole_batch_does(llama, tmp_path):
    curves = []
    for micro in (None, 5):
        stage = PlainStage(tmp_path / f"{micro}")
        train(stage, config(llama, train={"micro_batch_size": micro}))
        curves.append(stage.notes["curve"]["loss"])
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)


def test_rows_laid_end_to_end_learn_what_padded_rows_do(llama, tmp_path):
    curves = []
    for packing in (False, True):
        stage = PlainStage(tmp_path / f"{packing}")
        train(stage, config(llama, train={"packing": packing}))
        curves.append(stage.notes["curve"]["loss"])
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)


@pytest.mark.parametrize("settings", [{"gradient_checkpointing": True}, {"precision": "bf16"}, {"schedule": "linear"}])
def test_other_ways_to_train_learn_too(llama, stage, settings):
    train(stage, config(llama, train=settings))
    assert stage.notes["curve"]["loss"][-1] < 0.9 * stage.notes["curve"]["loss"][0]


def test_a_tracker_keeps_its_files_with_the_student(llama, stage):
    made = train(stage, config(llama, train={"report_to": ["tensorboard"]}))
    assert list(Path(made.path).glob("runs/*/events.out.tfevents*"))
    assert student_digest(Path(made.path)) == made.digest


def test_a_tracker_that_is_not_installed_is_named(llama, stage, monkeypatch):
    monkeypatch.setattr("tapir.students.trl.find_spec", lambda name: None)
    with pytest.raises(StudentError, match="trackio is not installed; pip install trackio"):
        train(stage, config(llama, train={"report_to": ["trackio"]}))


# ---- whatever happens to the process


def _train_in_child(work, settings):
    """Train in a process of its own, which is killed at any moment."""
    train(PlainStage(work), settings)


@pytest.fixture(scope="module")
def processes():
    """Children that start with the training stack loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tapir.students.trl"])
    return context


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_stage_killed_again_and_again_ends_with_the_unbroken_weights(llama, tmp_path, processes, method):
    settings = config(llama, train={"method": method, "checkpoint_steps": 2, "warmup_epochs": 4.0, "lora_rank": 4})
    whole = PlainStage(tmp_path / "whole")
    expected = train(whole, settings)

    work = tmp_path / "killed"
    kills = 0
    for step in (3, 9):
        child = processes.Process(target=_train_in_child, args=(work, settings))
        child.start()
        while child.is_alive() and not any(work.glob(f"checkpoint-{step // 2 * 2}*")):
            time.sleep(0.002)
        time.sleep(0.01 * step)
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.join()
        if (work / "student").exists():
            break
    assert kills
    resumed = PlainStage(work)
    assert newest_whole(work) or (work / "student").exists()
    assert train(resumed, settings).digest == expected.digest
    assert resumed.notes["curve"] == whole.notes["curve"]


def test_a_torn_checkpoint_is_passed_over(llama, tmp_path, stage):
    settings = config(llama, train={"checkpoint_steps": 4})
    expected = train(PlainStage(tmp_path / "whole"), settings)
    stop_at(stage, settings, 9)
    newest = newest_whole(stage.work)
    optimizer = newest / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:-100])
    (stage.work / "checkpoint-12").mkdir()
    assert newest_whole(stage.work).name == "checkpoint-8"
    assert train(stage, settings).digest == expected.digest


def test_an_unsealed_checkpoint_is_passed_over(llama, stage):
    stop_at(stage, config(llama), 5)
    (newest_whole(stage.work) / SEAL).unlink()
    assert newest_whole(stage.work) is None


def test_cancelling_stops_at_the_next_step_and_the_stage_goes_on_later(llama, tmp_path, stage):
    settings = config(llama)
    expected = train(PlainStage(tmp_path / "whole"), settings)
    stopped = stop_at(stage, settings, 5)
    assert 5 <= stopped <= 7
    assert newest_whole(stage.work).name == f"checkpoint-{stopped}"
    assert train(stage, settings).digest == expected.digest
    assert stage.seen[-1][0] == 16


def test_a_student_finished_just_before_a_kill_is_found_again(llama, stage):
    made = train(stage, config(llama))
    notes, stage.notes, stage.seen = stage.notes, {}, []
    assert train(stage, config(llama)) == made
    assert stage.notes == notes
    assert stage.seen == []


def test_work_of_other_rows_or_settings_is_not_gone_on_with(llama, tmp_path, stage):
    stop_at(stage, config(llama), 5)
    other = config(llama, train={"learning_rate": 1e-3})
    expected = train(PlainStage(tmp_path / "whole"), other, ROWS[:64])
    assert train(stage, other, ROWS[:64]).digest == expected.digest


def stop_at(stage, settings, step):
    """Cancel training once `step` was seen; the last step that was trained."""

    async def cancelled():
        task = asyncio.create_task(HuggingFaceStudent(settings, seed=3).train(stage, ROWS))
        await reaches(stage, step)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    return int(stage.seen[-1][0])


# ---- adapters


@pytest.mark.parametrize("base", ["llama", "qwen"])
def test_lora_merged_is_a_whole_model(base, stage, request):
    directory = request.getfixturevalue(base)
    made = train(stage, config(directory, train={"method": "lora", "learning_rate": 2e-2}))
    assert not (Path(made.path) / "adapter_config.json").exists()
    assert weights(made.path).keys() == weights(directory).keys()
    assert stage.notes["curve"]["loss"][-1] < stage.notes["curve"]["loss"][0]


@pytest.mark.parametrize("base", ["llama", "qwen"])
def test_an_adapter_kept_per_round_goes_on_and_answers(base, tmp_path, request):
    directory = request.getfixturevalue(base)
    settings = config(directory, train={"method": "lora", "adapters": "keep", "learning_rate": 2e-2})
    warm_up, stage = PlainStage(tmp_path / "0"), PlainStage(tmp_path / "1")
    first = train(warm_up, settings)
    second = train(stage, settings, start=first)
    assert stage.notes["curve"]["loss"][0] < warm_up.notes["curve"]["loss"][0] - 0.02
    assert (Path(second.path) / "adapter_model.safetensors").exists()
    assert not (Path(second.path) / "model.safetensors").exists()
    assert len(answers(settings, second, ROWS[:4], PlainStage(tmp_path / "2"))) == 4
    whole = AutoModelForCausalLM.from_pretrained(second.path)
    base = AutoModelForCausalLM.from_pretrained(directory)
    ids = torch.arange(20, 40)[None]
    assert whole.generation_config.eos_token_id is not None
    assert not torch.allclose(whole(ids).logits, base(ids).logits, atol=1e-3)


def test_qlora_without_bitsandbytes_says_what_it_needs(llama, stage):
    with pytest.raises(StudentError, match="qlora needs the package bitsandbytes and a CUDA GPU"):
        train(stage, config(llama, train={"method": "qlora"}))


# ---- what must not be trained on, or with


def test_a_bad_loss_stops_the_stage_and_keeps_the_last_good_checkpoint(llama, stage, monkeypatch):
    from tapir.students.trl import PlannedTrainer

    whole = PlannedTrainer.compute_loss

    def poisoned(self, model, inputs, **settings):
        loss = whole(self, model, inputs, **settings)
        return loss * math.nan if self.state.global_step >= 6 else loss

    monkeypatch.setattr(PlannedTrainer, "compute_loss", poisoned)
    settings = config(llama, train={"checkpoint_steps": 3})
    with pytest.raises(StudentError, match=r"the loss of step 7 is nan; the last good checkpoint is .*checkpoint-6"):
        train(stage, settings)
    assert newest_whole(stage.work).name == "checkpoint-6"
    assert all(torch.isfinite(tensor).all() for tensor in weights(stage.work / "checkpoint-6").values())


def test_a_diverging_loss_stops_the_stage(llama, stage):
    settings = config(
        llama, train={"learning_rate": 10.0, "warmup_epochs": 30.0, "batch_size": 4, "max_grad_norm": 1e9}
    )
    with pytest.raises(StudentError, match=r"training stopped: .*learning_rate"):
        train(stage, settings)


def test_rows_without_room_for_a_response_are_named(llama, stage):
    long = example(user_turn("x " * 400), "y", Lineage(source="test"))
    with pytest.raises(StudentError, match=rf"1 of 121 rows have no response left within 256 tokens \(ids {long.id}\)"):
        train(stage, config(llama), [*ROWS, long])


def test_a_base_model_without_a_template_hands_on_the_one_it_was_given(llama, tmp_path, stage):
    base = tmp_path / "base"
    shutil.copytree(llama, base)
    (base / "chat_template.jinja").unlink()
    made = train(stage, config(base))
    assert "### Response:" in AutoTokenizer.from_pretrained(made.path).chat_template
    assert "no chat template" in stage.notes["preflight"]["notes"][0]


@pytest.mark.parametrize("train_settings", [{}, {"method": "lora"}, {"method": "lora", "adapters": "keep"}])
def test_a_base_that_names_a_temperature_without_sampling_can_be_trained(llama, tmp_path, stage, train_settings):
    base = tmp_path / "base"
    shutil.copytree(llama, base)
    generation = json.loads((base / "generation_config.json").read_text())
    (base / "generation_config.json").write_text(json.dumps(generation | {"temperature": 0.6, "top_p": 0.9}))
    made = train(stage, config(base, train={"checkpoint_steps": 5, **train_settings}), ROWS[:32])
    written = json.loads((Path(made.path) / "generation_config.json").read_text())
    assert (written["temperature"], written["top_p"], written["do_sample"]) == (0.6, 0.9, True)
    assert len(answers(config(base), made, ROWS[:2], PlainStage(tmp_path / "answers"))) == 2


def test_a_directory_without_a_model_is_one_clear_line(llama, tmp_path, stage):
    broken = tmp_path / "broken"
    shutil.copytree(llama, broken)
    (broken / "model.safetensors").unlink()
    with pytest.raises(StudentError, match="cannot be loaded as a causal LM from this directory"):
        train(stage, config(broken))


def test_identity_leaves_out_what_does_not_decide_the_student(llama):
    base = HuggingFaceStudent(config(llama)).identity("train")
    same = config(llama, train={"checkpoint_steps": 7, "report_to": ["tensorboard"], "micro_batch_size": 2})
    other = config(llama, train={"learning_rate": 1e-4})
    assert HuggingFaceStudent(same).identity("train") == base
    assert HuggingFaceStudent(other).identity("train") != base

"""Training in several processes through `accelerate launch`."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from student_support import ROWS, PlainStage, config, reaches
from transformers import AutoModelForCausalLM

from tapir.errors import StudentError
from tapir.students import HuggingFaceStudent
from tapir.students.checkpoints import newest_whole

pytestmark = [pytest.mark.slow]

FSDP = """\
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
use_cpu: true
num_machines: 1
num_processes: 2
mixed_precision: 'no'
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_reshard_after_forward: true
  fsdp_state_dict_type: FULL_STATE_DICT
  fsdp_cpu_ram_efficient_loading: false
"""


def train(stage, settings):
    return asyncio.run(HuggingFaceStudent(settings, seed=3).train(stage, ROWS))


def test_two_processes_learn_what_one_does(llama, tmp_path):
    curves = []
    for processes in (1, 2):
        stage = PlainStage(tmp_path / f"{processes}")
        made = train(stage, config(llama, train={"processes": processes}))
        curves.append(stage.notes["curve"]["loss"])
        AutoModelForCausalLM.from_pretrained(made.path)
        assert stage.seen[-1][:2] == (16, 16)
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)


def test_a_sharded_model_is_trained_and_written_whole(llama, tmp_path):
    accelerate_config = tmp_path / "accelerate.yaml"
    accelerate_config.write_text(FSDP)
    stage = PlainStage(tmp_path / "work")
    made = train(stage, config(llama, train={"accelerate_config": accelerate_config}))
    model = AutoModelForCausalLM.from_pretrained(made.path)
    assert sum(p.numel() for p in model.parameters()) == sum(
        p.numel() for p in AutoModelForCausalLM.from_pretrained(llama).parameters()
    )
    assert stage.notes["curve"]["loss"][-1] < 0.8 * stage.notes["curve"]["loss"][0]


def test_processes_die_with_the_one_that_waits_and_the_stage_goes_on(llama, tmp_path):
    settings = {"processes": 2, "checkpoint_steps": 2, "warmup_epochs": 12.0}
    expected = train(PlainStage(tmp_path / "whole"), config(llama, train=settings))
    work = tmp_path / "killed"
    script = tmp_path / "run.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from test_launch import PlainStage, config, train\n"
        f"train(PlainStage(Path({str(work)!r})), config(Path({str(llama)!r}), train={settings!r}))\n"
    )
    child = subprocess.Popen([sys.executable, str(script)])
    while newest_whole(work) is None and child.poll() is None:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and workers_of(work):
        time.sleep(0.2)
    assert not workers_of(work)
    assert newest_whole(work) is not None
    assert not (work / "student").exists()
    assert train(PlainStage(work), config(llama, train=settings)).digest == expected.digest


def test_cancelling_stops_every_process_with_a_checkpoint(llama, tmp_path):
    stage = PlainStage(tmp_path / "work")
    settings = config(llama, train={"processes": 2, "warmup_epochs": 60.0})

    async def cancelled():
        task = asyncio.create_task(HuggingFaceStudent(settings, seed=3).train(stage, ROWS))
        await reaches(stage, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert newest_whole(stage.work) is not None
    assert not workers_of(stage.work)


def test_what_fails_in_a_process_is_told(llama, tmp_path):
    settings = config(llama, train={"processes": 2, "method": "qlora"})
    with pytest.raises(StudentError, match=r"training in 2 processes failed: .*qlora needs the package bitsandbytes"):
        train(PlainStage(tmp_path / "work"), settings)


def workers_of(work):
    """Process ids that were started for this working directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"{work}/launch".encode() in command:
                found.append(int(entry.name))
    return found

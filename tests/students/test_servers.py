"""Engines `endpoint` and `vllm`: a student asked through a server, of the user's or of our own."""

import asyncio
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from student_support import ROWS, PlainStage, answers, config

from tapir.errors import OracleError, StudentError
from tapir.rows import Answer, Checkpoint, Lineage, Refused, example, user_turn
from tapir.students import HuggingFaceStudent
from tapir.students.vllm import server_command, serving

FAKE = (sys.executable, str(Path(__file__).parent / "fake_server.py"), "{model}", "{port}")


@pytest.fixture
def student(llama):
    return Checkpoint(path=str(llama), digest="0123456789abcdef0123456789abcdef")


def vllm(llama, command=FAKE, start_timeout_s=20.0, **environment):
    served = {"command": command, "start_timeout_s": start_timeout_s, "environment": environment}
    return config(llama, engine="vllm", vllm=served)


def servers_of(model):
    """Processes that serve `model`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"fake_server.py" in command and str(model).encode() in command:
                found.append(int(entry.name))
    return found


def test_a_server_is_started_asked_and_stopped(llama, student, stage):
    made = answers(vllm(llama, FAKE_DELAY_S="0.5"), student, ROWS, stage)
    assert [(row.id, row.response) for row in made] == [(row.id, row.instruction[::-1]) for row in ROWS]
    assert {row.tokens for row in made} == {len(row.instruction) for row in ROWS}
    assert stage.expected == len(ROWS)
    assert stage.notes["answering"]["temperature"] == 0.0
    assert servers_of(llama) == []


def test_a_row_that_the_server_rejects_is_refused(llama, student, stage):
    long = example(user_turn("x" * 400), "y", Lineage(source="test"))
    made = answers(vllm(llama), student, [ROWS[0], long, ROWS[1]], stage)
    assert [type(row) for row in made] == [Answer, Refused, Answer]
    assert (made[1].id, made[1].reason) == (long.id, "rejected")
    assert "maximum context length" in made[1].detail


def test_an_adapter_is_passed_by_name(llama, tmp_path, stage):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(f'{{"base_model_name_or_path": "{llama}", "r": 8}}')
    made = Checkpoint(path=str(adapter), digest="f" * 32)
    command, name = server_command(vllm(llama).vllm, made, 80)
    assert command[2:4] == [str(llama), "80"]
    assert command[4:] == ["--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"{name}={adapter}"]
    assert name == "student-ffffffffffff"
    assert len(answers(vllm(llama), made, ROWS[:3], stage)) == 3


def test_a_server_that_dies_at_once_is_quoted(llama, student, stage):
    with pytest.raises(StudentError, match=r"ended with code 1: no kernel image is available"):
        answers(vllm(llama, FAKE_MODE="dies"), student, ROWS, stage)


def test_a_server_that_never_gets_well_is_given_up(llama, student, stage):
    with pytest.raises(StudentError, match=r"not healthy within 1 s: .*start_timeout_s"):
        answers(vllm(llama, start_timeout_s=1.0, FAKE_DELAY_S="60"), student, ROWS, stage)
    assert servers_of(llama) == []


def test_a_command_that_is_not_there_and_a_wrong_placeholder_are_clear(llama, student, stage):
    with pytest.raises(StudentError, match="'no-such-program' cannot be started"):
        answers(vllm(llama, command=("no-such-program",)), student, ROWS, stage)
    with pytest.raises(StudentError, match=r"'mode' is no placeholder; there are model, port, name"):
        answers(vllm(llama, command=("x", "{mode}")), student, ROWS, stage)


def test_the_server_dies_with_a_killed_run(llama, student, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from tapir.config import VllmConfig\nfrom tapir.rows import Checkpoint\n"
        "from tapir.students.vllm import serving\n"
        "async def main():\n"
        f"    student = Checkpoint(path={student.path!r}, digest={student.digest!r})\n"
        f"    async with serving(VllmConfig(command={FAKE!r}), student, Path({str(tmp_path)!r})):\n"
        "        print('up', flush=True)\n        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    child = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"up\n"
    assert servers_of(llama)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    deadline = time.monotonic() + 10
    while servers_of(llama) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert servers_of(llama) == []


def test_leaving_early_stops_the_server(llama, student, stage):
    async def first():
        stream = HuggingFaceStudent(vllm(llama)).answer(stage, student, ROWS)
        row = await anext(stream)
        await stream.aclose()
        return row

    assert isinstance(asyncio.run(first()), Answer)
    assert servers_of(llama) == []


def test_answers_kept_before_a_broken_server_are_not_asked_again(llama, student, tmp_path):
    stage = PlainStage(tmp_path / "work")
    patient = {"total_timeout_s": 2.0, "max_attempts": 2, "max_concurrency": 2}

    async def through(rows, **environment):
        settings = vllm(llama, **environment)
        async with serving(settings.vllm, student, tmp_path) as endpoint:
            named = endpoint.model_copy(update={**patient, "model": "{student}"})
            asked = HuggingFaceStudent(settings.model_copy(update={"engine": "endpoint", "endpoint": named}))
            return [row async for row in asked.answer(stage, student, rows)]

    with pytest.raises(OracleError):
        asyncio.run(through(ROWS[:20], FAKE_MODE="break"))
    [path] = (stage.work / "answers").glob("*.jsonl")
    kept = sum(b"{" in line for line in path.read_bytes().split(b"\n"))
    assert kept >= 4
    with path.open("ab") as file:
        file.write(b'\n{"id": "torn')
    made = asyncio.run(through(ROWS[:20]))
    assert [row.response for row in made] == [row.instruction[::-1] for row in ROWS[:20]]
    lines = [line for line in path.read_bytes().split(b"\n") if line.endswith(b"}")]
    assert len(lines) == 20


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.skipif(find_spec("fastapi") is None, reason="the extra `serve` is not installed")
def test_transformers_serve_stands_in_for_vllm(llama, tmp_path):
    settings = config(llama, train={"warmup_epochs": 6.0, "learning_rate": 1e-2}, generation={"precision": "fp32"})
    made = asyncio.run(HuggingFaceStudent(settings).train(PlainStage(tmp_path / "train"), ROWS))
    here = answers(settings, made, ROWS[:12], PlainStage(tmp_path / "here"))
    command = (
        str(Path(sys.executable).parent / "transformers"),
        "serve",
        "{model}",
        "--port",
        "{port}",
        "--dtype",
        "float32",
    )
    served = settings.model_copy(
        update={"engine": "vllm", "vllm": vllm(llama, command, 300.0, HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="").vllm}
    )
    there = answers(served, made, ROWS[:12], PlainStage(tmp_path / "there"))
    assert sorted((row.id, row.response) for row in there) == sorted((row.id, row.response) for row in here)

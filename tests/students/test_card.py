"""The model card, and what a student is to those who get it."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import yaml
from student_support import ROWS, PlainStage, config

from tapir.rows import Lineage, example, lesson, user_turn
from tapir.students import HuggingFaceStudent
from tapir.students.card import add_scores, write_card
from tapir.students.checkpoints import student_digest
from tapir.students.jobs import Job
from tapir.tasks import Task

CURVE = {"step": [1, 2], "loss": [4.0, 2.5], "tokens": [100, 200]}


def card_of(tmp_path, llama, rows):
    settings = config(llama).train
    job = Job(str(llama), "d", tmp_path, settings, 1.0, 0, "cpu", 1, trust_remote_code=False)
    write_card(tmp_path, job, "some/base-1B", rows, CURVE)
    return (tmp_path / "README.md").read_text()


def test_the_card_names_base_sources_teachers_and_licences(tmp_path, llama):
    seed = lesson(ROWS[0], "a", Task.MATH, is_hard=True, lineage=Lineage(source="alpaca", license="CC BY-NC 4.0"))
    made = Lineage(source="expansion", round=1, teacher="gpt-x")
    rows = [seed, lesson(ROWS[1], "b", None, is_hard=False, lineage=made)]
    card = card_of(tmp_path, llama, rows)
    front = yaml.safe_load(card.split("---")[1])
    assert front["base_model"] == "some/base-1B"
    assert "| alpaca | the source | CC BY-NC 4.0 | 1 |" in card
    assert "| expansion | gpt-x | not stated | 1 |" in card
    assert "2 rows: 1 hard (seeds and their expansions), 1 easy." in card
    assert "written by gpt-x; its provider's terms" in card
    assert "| loss of the last step | 2.5 |" in card


def test_text_of_the_data_cannot_break_the_card(tmp_path, llama):
    row = example(user_turn("q"), "a", Lineage(source="a|b\n<script>"))
    assert "| a\\|b \\<script\\> |" in card_of(tmp_path, llama, [row])


def test_scores_are_put_in_and_replaced_without_changing_the_student(tmp_path, llama):
    card_of(tmp_path, llama, ROWS)
    before = student_digest(tmp_path)
    add_scores(tmp_path, [{"set": "world", "correct": 0.5}])
    add_scores(tmp_path, [{"set": "world", "correct": 0.75}])
    card = (tmp_path / "README.md").read_text()
    assert "| world | 0.75 |" in card
    assert "0.5 |" not in card
    assert "Not evaluated" not in card
    assert student_digest(tmp_path) == before


def test_a_student_opens_in_a_fresh_process_and_stops_by_itself(tmp_path, llama):
    rows = [example(row.turns, "Yes.", row.lineage) for row in ROWS]
    settings = config(llama, train={"warmup_epochs": 4.0, "learning_rate": 1e-2})
    made = asyncio.run(HuggingFaceStudent(settings).train(PlainStage(tmp_path / "work"), rows))
    assert "Fine-tuned by [TAPIR]" in (Path(made.path) / "README.md").read_text()
    script = (
        "import json, sys, torch\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "chat = [{'role': 'user', 'content': '(1) What is 3 + 4?'}]\n"
        "ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors='pt', return_dict=True)\n"
        "out = model.generate(**ids, max_new_tokens=200)[0].tolist()\n"
        "print(json.dumps([len(out), out[-1], model.generation_config.eos_token_id]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, made.path], capture_output=True, text=True, check=True, timeout=120
    )
    length, last, stops = json.loads(done.stdout.splitlines()[-1])
    assert length < 200
    assert last in stops

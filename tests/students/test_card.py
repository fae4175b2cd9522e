"""The model card, and what a student is to those who get it."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import yaml
from huggingface_hub import ModelCard
from student_support import ROWS, PlainStage, config

from tapir.evaluation.results import by_set
from tapir.rows import Evaluated, Lineage, example, lesson, user_turn
from tapir.students import HuggingFaceStudent
from tapir.students.card import add_scores, linked, write_card
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


def test_paths_of_this_machine_stay_off_the_card(tmp_path, llama):
    made = Lineage(source=str(tmp_path / "mine.jsonl"), teacher="/models/big-8b")
    job = Job(str(llama), "d", tmp_path, config(llama).train, 1.0, 0, "cpu", 1, trust_remote_code=False)
    write_card(tmp_path, job, str(llama), [example(user_turn("q"), "a", made)], CURVE)
    card = (tmp_path / "README.md").read_text()
    assert "base_model" not in yaml.safe_load(card.split("---")[1])
    assert str(tmp_path.parent) not in card and "/models" not in card
    assert "| mine.jsonl | big-8b |" in card
    assert f"The weights derive from `{llama.name}`" in card


def evaluated(set_, number, score, task=None, is_correct=None):
    return Evaluated(
        id=str(number), set=set_, task=task, difficulty=None, weight=1.0, instruction="q", reference="r",
        response="a", score=score, is_correct=is_correct,
    )  # fmt: skip


def test_scores_are_put_in_and_replaced_without_changing_the_student(tmp_path, llama):
    card_of(tmp_path, llama, ROWS)
    before = student_digest(tmp_path)
    checked = [evaluated("sums", n, 10.0 if n else 1.0, Task.MATH, is_correct=bool(n)) for n in range(4)]
    judged = [evaluated("held-out", n, 5.5) for n in range(2)]
    add_scores(tmp_path, by_set(judged), "gpt-x")
    add_scores(tmp_path, by_set([*checked, *judged]), "/models/judge-8b")
    card = (tmp_path / "README.md").read_text()
    assert "| sums | 4 | right answers, % | 75.0 |" in card
    assert "| held-out | 2 | score by judge-8b, % of the scale 1-10 | 50.0 |" in card
    assert "| Math | 75.0 |  |" in card
    assert "gpt-x" not in card
    assert "Not evaluated" not in card
    assert student_digest(tmp_path) == before
    results = ModelCard(card).data.eval_results
    assert [(one.dataset_name, one.metric_type, one.metric_value) for one in results] == [
        ("sums", "accuracy", 75.0),
        ("held-out", "judge_score", 5.5),
    ]
    add_scores(tmp_path, {}, "gpt-x")
    assert "Not evaluated yet." in (tmp_path / "README.md").read_text()
    assert "model-index" not in (tmp_path / "README.md").read_text()


def test_a_directory_without_a_card_gets_none(tmp_path):
    add_scores(tmp_path, by_set([evaluated("sums", 1, 5.0)]), "gpt-x")
    assert list(tmp_path.iterdir()) == []


def test_the_card_can_name_the_data_set_that_goes_with_it(tmp_path, llama):
    card = card_of(tmp_path, llama, ROWS)
    assert ModelCard(linked(card, "me/mine")).data.datasets == ["me/mine"]
    assert linked(linked(card, "me/mine"), None) == card


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

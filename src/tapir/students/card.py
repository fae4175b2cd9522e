"""The model card in a student's directory: what it was made of, how, and what it can do."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tapir.evaluation.results import UNLABELLED, Summary
from tapir.rows import Example, Lesson
from tapir.students.jobs import Job
from tapir.version import __version__

CARD = "README.md"
_SCORES = "<!-- scores -->"
_METHOD = (
    "Fine-tuned by [TAPIR](https://arxiv.org/abs/2405.13448), multi-round distillation with task-aware curriculum "
    "planning: instructions that the student answers worse than its teacher are found, expanded and answered by the "
    "teacher in the style that the task needs, and taught in rounds with a growing share of hard rows."
)
_PARTS = ("all", "easy", "hard", "core")
_HARD = {True: "hard (seeds and their expansions)", False: "easy", None: "warm-up"}


def write_card(directory: Path, job: Job, base: str, lessons: Sequence[Example], curve: Mapping[str, Any]) -> None:
    """Write the card of the student in `directory`; `add_scores` fills in what it can do once that is known.

    A base model, a source or a teacher given as a path shows by its last name alone: cards travel.
    """
    (directory / CARD).write_text(_card(job, base, lessons, curve), encoding="utf-8")


def add_scores(directory: Path, scores: Mapping[str, Summary], judge: str) -> None:
    """Put what a student reached on each evaluation set into its card; earlier scores are replaced.

    A directory without a card is left alone. `judge`: who scored what could not be checked.
    """
    path = directory / CARD
    if not path.is_file():
        return
    old = path.read_text(encoding="utf-8")
    head, _, rest = old.partition(_SCORES)
    _, _, tail = rest.partition(_SCORES)
    judge = _named(judge)
    shown = _results(scores, judge) if scores else "Not evaluated yet."
    name = head.partition("\n# ")[2].partition("\n")[0]
    card = f"{head}{_SCORES}\n{shown}\n{_SCORES}{tail}"
    card = _with_front(card, {"model-index": _model_index(name, scores, judge) if scores else None})
    if card != old:
        draft = path.with_name(f".{CARD}.{os.getpid()}")
        draft.write_text(card, encoding="utf-8")
        draft.replace(path)


def linked(card: str, data: str | None) -> str:
    """The card with the hub's data set that the student was trained on; None: with none."""
    return _with_front(card, {"datasets": [data] if data else None})


def _with_front(card: str, values: Mapping[str, Any]) -> str:
    """The card with these entries of its front matter replaced; None takes one out."""
    _, front, body = card.split("---\n", 2)
    entries = {**yaml.safe_load(front), **values}
    kept = {name: value for name, value in entries.items() if value is not None}
    return f"---\n{_yaml(kept)}---\n{body}"


def _yaml(front: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(front), sort_keys=True, allow_unicode=True)


def _model_index(name: str, scores: Mapping[str, Summary], judge: str) -> list[dict[str, Any]]:
    """The scores in the hub's own form, one metric a set."""
    results = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"type": one, "name": one},
            "metrics": [
                {"type": "accuracy", "name": "right answers, %", "value": round(found.all, 2)}
                if found.is_accuracy
                else {"type": "judge_score", "name": f"mean score by {judge}, 1-10", "value": round(found.score, 3)}
            ],
        }
        for one, found in scores.items()
        if found.all is not None and found.score is not None
    ]
    return [{"name": name, "results": results}]


def _results(scores: Mapping[str, Summary], judge: str) -> str:
    """The scores as tables: one of the sets and their parts, one of the tasks."""
    parts = [part for part in _PARTS if any(getattr(one, part) is not None for one in scores.values())]
    sets: list[dict[str, str | int | float]] = [
        {
            "set": name,
            "items": one.items,
            "measure": "right answers, %" if one.is_accuracy else f"score by {judge}, % of the scale 1-10",
            **{part: _percent(getattr(one, part)) for part in parts},
        }
        for name, one in scores.items()
    ]
    tasks = sorted({task for one in scores.values() for task in one.tasks} - {UNLABELLED})
    by_task = [
        {"task": task, **{name: _percent(one.tasks.get(task)) for name, one in scores.items()}} for task in tasks
    ]
    return "\n\n".join([_table(sets), *([_table(by_task)] if by_task else [])])


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _card(job: Job, base: str, lessons: Sequence[Example], curve: Mapping[str, Any]) -> str:
    """The text of the card."""
    name = _named(base)
    front = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["tapir", "distillation", "sft"],
    }
    if _is_hub_id(base):
        front["base_model"] = base
    sections = [
        f"---\n{_yaml(front)}---",
        f"# {name.rsplit('/', 1)[-1]}, taught by TAPIR",
        f"{_METHOD}\n\nThis is one round's student, made with tapir {__version__}.",
        f"## Data\n\n{_table(_sources(lessons))}\n\n{_parts(lessons)}",
        f"## Training\n\n{_table(_settings(job, curve))}",
        f"## Results\n\n{_SCORES}\nNot evaluated yet.\n{_SCORES}",
        f"## Use\n\n{_USE}",
        f"## Licence\n\n{_licence(name, lessons)}",
    ]
    return "\n\n".join(sections) + "\n"


def _is_hub_id(base: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", base) is not None and not Path(base).is_dir()


def _named(text: str) -> str:
    """A model, source or teacher as others may read it: a path by its last part."""
    path = Path(text).expanduser()
    return path.resolve().name if path.is_absolute() or text.startswith(".") or path.is_dir() else text


_USE = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(DIRECTORY)
model = AutoModelForCausalLM.from_pretrained(DIRECTORY)
chat = [{"role": "user", "content": "..."}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**inputs)[0]))
```

The chat template and the tokens that end an answer (`generation_config.json`) are those it was trained with; servers
such as `vllm serve` read both."""


def _sources(lessons: Sequence[Example]) -> list[dict[str, str | int]]:
    """Rows by where their text came from."""
    counts = Counter((row.lineage.source, row.lineage.teacher, row.lineage.license) for row in lessons)
    return [
        {
            "source": _named(source),
            "written by": _named(teacher) if teacher else "the source",
            "licence": licence or "not stated",
            "rows": count,
        }
        for (source, teacher, licence), count in counts.most_common()
    ]


def _parts(lessons: Sequence[Example]) -> str:
    """How much of the mixture was hard."""
    counts = Counter(_HARD[row.is_hard if isinstance(row, Lesson) else None] for row in lessons)
    return f"{len(lessons)} rows: " + ", ".join(f"{count} {name}" for name, count in counts.most_common()) + "."


def _settings(job: Job, curve: Mapping[str, Any]) -> list[dict[str, str | int | float]]:
    """What training did."""
    config = job.config
    batch = f"{config.batch_tokens} tokens" if config.batch_tokens else f"{config.batch_size} rows"
    values: dict[str, str | int | float] = {
        "method": config.method,
        "epochs": job.epochs,
        "steps": len(curve["step"]),
        "tokens seen": curve["tokens"][-1],
        "batch": batch,
        "learning rate": f"{config.learning_rate:g}, {config.schedule}, {config.warmup_steps} warm-up steps",
        "seed": job.seed,
        "loss of the first step": round(curve["loss"][0], 4),
        "loss of the last step": round(curve["loss"][-1], 4),
    }
    return [{"setting": name, "value": value} for name, value in values.items()]


def _licence(base: str, lessons: Sequence[Example]) -> str:
    """What a user of the weights must look at."""
    licences = sorted({row.lineage.license for row in lessons if row.lineage.license})
    teachers = sorted({_named(row.lineage.teacher) for row in lessons if row.lineage.teacher})
    lines = [f"- The weights derive from `{base}`: its licence applies to them."]
    if licences:
        lines.append(f"- The training texts state these licences: {', '.join(licences)}.")
    if any(not row.lineage.license for row in lessons):
        lines.append("- Some training texts state no licence.")
    lines += [
        f"- Texts were written by {teacher}; its provider's terms may limit what models trained on them are used for."
        for teacher in teachers
    ]
    return "\n".join(lines)


def _table(rows: Sequence[Mapping[str, str | int | float]]) -> str:
    """A Markdown table whose columns are those of the first row."""
    head = list(rows[0])
    lines = [map(_cell, head), ["---"] * len(head), *([_cell(row[name]) for name in head] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: str | int | float) -> str:
    """A value that cannot leave its cell or become markup."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"([|\\`<>\[\]*_])", r"\\\1", " ".join(text.split()))

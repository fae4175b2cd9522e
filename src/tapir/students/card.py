"""The model card in a student's directory: what it was made of, how, and what it can do."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

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
_HARD = {True: "hard (seeds and their expansions)", False: "easy", None: "warm-up"}


def write_card(directory: Path, job: Job, base: str, lessons: Sequence[Example], curve: Mapping[str, Any]) -> None:
    """Write the card of the student in `directory`; `add_scores` fills in what it can do once that is known."""
    (directory / CARD).write_text(_card(job, base, lessons, curve), encoding="utf-8")


def add_scores(directory: Path, scores: Sequence[Mapping[str, str | int | float]]) -> None:
    """Put evaluation results, one mapping of column to value a row, into the card; earlier ones are replaced."""
    path = directory / CARD
    head, _, rest = path.read_text(encoding="utf-8").partition(_SCORES)
    _, _, tail = rest.partition(_SCORES)
    path.write_text(f"{head}{_SCORES}\n{_table(scores)}\n{_SCORES}{tail}", encoding="utf-8")


def _card(job: Job, base: str, lessons: Sequence[Example], curve: Mapping[str, Any]) -> str:
    """The text of the card."""
    front = {
        "base_model": base,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["tapir", "distillation", "sft"],
    }
    sections = [
        f"---\n{yaml.safe_dump(front, sort_keys=True)}---",
        f"# {Path(base).name}, taught by TAPIR",
        f"{_METHOD}\n\nThis is one round's student, made with tapir {__version__}.",
        f"## Data\n\n{_table(_sources(lessons))}\n\n{_parts(lessons)}",
        f"## Training\n\n{_table(_settings(job, curve))}",
        f"## Results\n\n{_SCORES}\nNot evaluated yet.\n{_SCORES}",
        f"## Use\n\n{_USE}",
        f"## Licence\n\n{_licence(base, lessons)}",
    ]
    return "\n\n".join(sections) + "\n"


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
        {"source": source, "written by": teacher or "the source", "licence": licence or "not stated", "rows": count}
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
    teachers = sorted({row.lineage.teacher for row in lessons if row.lineage.teacher})
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
    lines = [head, ["---"] * len(head), *([_cell(row[name]) for name in head] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: str | int | float) -> str:
    """A value that cannot leave its cell or become markup."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"([|\\`<>\[\]*_])", r"\\\1", " ".join(text.split()))

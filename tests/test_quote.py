"""The quote: what a run will ask, before it asks."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tapir.check import ConfigReport, check_config
from tapir.classifiers.cascade import unsure_share
from tapir.classifiers.local import LocalClassifier
from tapir.config import CorpusConfig, LocalClassifierConfig, RunConfig, TasksConfig, parse_config
from tapir.corpus.file_corpus import cleaned_rows, data_set
from tapir.presets import preset_text
from tapir.quote import UNSURE_SHARE, Sizes, Usage, quote
from tapir.rows import Example

SIZES = Sizes(rows=1000, instruction_tokens=40, response_tokens=100, evaluation_items=50)


def config(**judge: Any) -> RunConfig:
    tree = yaml.safe_load(preset_text("paper"))
    price = {"input_per_million": 2.0, "output_per_million": 10.0}
    tree["teacher"]["endpoint"]["price"] = tree["judge"]["endpoint"]["price"] = price
    tree["judge"] |= judge
    tree["curriculum"] = {"rounds": 2}
    tree["expand"] = {"new_per_round": 103, "per_prompt": 5}
    return parse_config(tree, "test")


def test_a_run_without_endpoints_is_quoted_nothing() -> None:
    assert quote(parse_config(yaml.safe_load(preset_text("world")), "test"), SIZES) == []


def test_every_stage_that_asks_is_quoted() -> None:
    calls = {line.stage: line.calls for line in quote(config(), SIZES)}
    assert calls == {
        "respond": 1000,
        "judge": 1000,
        "refine": 300,
        "evaluate": 50,
        "round 1: expand": 21,
        "round 1: refine": 103,
        "round 1: evaluate": 50,
        "round 2: expand": 21,
        "round 2: refine": 103,
        "round 2: evaluate": 50,
    }


@pytest.mark.parametrize(("judge", "factor"), [({"swap": True}, 2), ({"mode": "single"}, 2), ({}, 1)])
def test_swapping_and_single_answers_double_the_judges_calls(judge: dict[str, Any], factor: int) -> None:
    line = next(line for line in quote(config(**judge), SIZES) if line.stage == "judge")
    assert line.calls == 1000 * factor


def test_measured_usage_replaces_the_guess() -> None:
    line = next(line for line in quote(config(), SIZES, {"judge": Usage(500, 80)}) if line.stage == "judge")
    assert (line.input_tokens, line.output_tokens) == (500_000, 80_000)
    assert line.cost == pytest.approx(500_000 * 2e-6 + 80_000 * 10e-6)


def cascade(price: float = 1.0) -> dict[str, Any]:
    endpoint = {"base_url": "http://localhost:1/v1", "model": "m", "price": {"input_per_million": price}}
    return {"kind": "cascade", "endpoint": endpoint, "margin": 0.3, "local": {"encoder": "none"}}


def test_a_cascade_is_quoted_by_the_share_that_it_passes_on() -> None:
    cfg = config()
    cfg = cfg.model_copy(update={"tasks": TasksConfig.model_validate({"classifier": cascade()})})
    calls = {
        share: next(line.calls for line in quote(cfg, replace(SIZES, unsure_share=share)) if line.stage == "label")
        for share in (0.0, 0.25)
    }
    assert calls == {0.0: 0, 0.25: 250}


def checked(tmp_path: Path, classifier: dict[str, Any]) -> ConfigReport:
    texts = ["Multiply 12 by 34.", "Tell me about it.", "Something else, please.", "Write a poem on the sea."]
    rows = [{"instruction": f"{text} ({n})", "output": "Yes."} for n, text in enumerate(texts)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tree = yaml.safe_load(preset_text("world")) | {"corpus": {"path": str(tmp_path / "rows.jsonl")}}
    tree |= {"runs": str(tmp_path / "runs"), "tasks": {"classifier": classifier}}
    return check_config(parse_config(tree, "test"))


def test_check_measures_the_share_below_the_margin_and_its_cost(tmp_path: Path) -> None:
    report = checked(tmp_path, cascade())
    found = report.cascade
    assert found is not None and found.sampled == report.rows == 4
    local = LocalClassifier(LocalClassifierConfig(encoder="none"))
    data = CorpusConfig(path=str(tmp_path / "rows.jsonl"))
    rows = [row for _, row in cleaned_rows(data_set(data), data) if isinstance(row, Example)]
    assert found.share == asyncio.run(unsure_share(local, rows, 0.3))
    assert 0 < found.share < 1
    (label, *_) = [line for line in report.quotes if line.stage == "label"]
    assert label.calls == round(4 * found.share)
    assert found.cost == pytest.approx(sum(line.cost for line in report.quotes))


def test_a_cascade_that_cannot_be_loaded_is_a_problem_and_a_guess(tmp_path: Path) -> None:
    report = checked(tmp_path, cascade() | {"local": {"head": str(tmp_path / "nothing")}})
    assert report.cascade is not None
    assert (report.cascade.sampled, report.cascade.share) == (0, UNSURE_SHARE)
    assert any("nothing: holds no heads" in problem for problem in report.problems)
    assert report.exit_code == 2

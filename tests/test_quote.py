"""The quote: what a run will ask, before it asks."""

from typing import Any

import pytest
import yaml

from tapir.config import RunConfig, parse_config
from tapir.presets import preset_text
from tapir.quote import Sizes, Usage, quote

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

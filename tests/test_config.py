"""The configuration: presets load, mistakes are named, overrides apply."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tapir.config import RunConfig, load_config, parse_config
from tapir.errors import ConfigError
from tapir.presets import PRESETS, preset_text, write_preset
from tapir.tasks import Task

ROOT = Path(__file__).parent.parent


def tree(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "name": "t",
        "corpus": {"path": "world"},
        "student": {"model": "world"},
        "teacher": {"kind": "world"},
        "judge": {"kind": "world"},
    }
    return {**base, **changes}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_whole_configuration(name: str) -> None:
    assert isinstance(parse_config(yaml.safe_load(preset_text(name)), name), RunConfig)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_a_whole_configuration(path: Path) -> None:
    assert isinstance(load_config(path), RunConfig)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"difficulty": {"threshold": 20}}, r"difficulty\.threshold: .*less than or equal to 9 \(given: 20\)"),
        ({"difficulty": {"treshold": 2}}, r"difficulty\.treshold: there is no .*did you mean difficulty\.threshold\?"),
        ({"curiculum": {}}, r"curiculum: there is no such setting; did you mean curriculum\?"),
        ({"alpha": 1}, r"alpha: there is no such setting; did you mean curriculum\.alpha\?"),
        ({"budget": {"xyz": 1}}, r"budget\.xyz: .*known in budget: max_cost, max_calls, max_tokens, currency"),
        ({"teacher": {"kind": "wrld"}}, r"teacher: kind 'wrld' is none of .*; did you mean 'world'\?"),
        ({"teacher": {}}, r"teacher: kind is missing"),
        ({"teacher": None}, r"teacher: is a section; .*\(given: nothing\)"),
        ({"compare": ["sft", "sft"]}, r"compare: names a rival twice"),
        ({"compare": "sft"}, r"compare: is a list; write it in brackets \(given: 'sft'\)"),
        ({"evaluation": {"sets": [{"name": "a", "path": "x"}] * 2}}, r"evaluation\.sets: two sets have the same name"),
        ({"corpus": {"path": ""}}, r"corpus\.path: is empty"),
        ({"curriculum": {"rounds": True}}, r"curriculum: rounds is a number, not true; write its digits"),
        ({"difficulty": {"quantile": False}}, r"difficulty: quantile is a number, not false"),
        ({"teacher": {"kind": "poll"}}, r"teacher: .*'poll'.*'world', 'pool', 'endpoint'"),
        ({"teacher": {"kind": "pool"}}, r"teacher\.path: is missing; give it a value"),
        ({"name": "../x"}, r"name: may hold at most 64 letters, .*\(given: '../x'\)"),
        ({"tasks": {"target": {"Maths": 1}}}, r"tasks\.target\.Maths: .*; did you mean 'Math'\?"),
        ({"tasks": {"target": {"Math": 0}}}, r"tasks\.target: gives no task a weight"),
        ({"curriculum": {"rows_per_round": 5, "tokens_per_round": 5}}, r"curriculum: .*give one of them"),
        ({"student": {"model": "m", "engine": "endpoint"}}, r"student: .*needs student\.endpoint"),
        ({"curriculum": {"alpha": float("nan")}}, r"curriculum\.alpha: .*finite"),
    ],
)
def test_a_mistake_is_named_with_its_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(tree(**changes), "test.yaml")


def test_a_key_written_where_its_variables_name_belongs_is_not_repeated_in_the_error() -> None:
    endpoint = {"base_url": "http://localhost:1/v1", "model": "m", "api_key_env": "sk-very-secret-123"}
    with pytest.raises(ConfigError) as caught:
        parse_config(tree(judge={"kind": "endpoint", "endpoint": endpoint}), "test.yaml")
    assert "sk-very-secret" not in str(caught.value)
    assert "environment variable" in str(caught.value)


@pytest.mark.parametrize("address", ["http://me:hunter2@host/v1", "https://hunter2@host", "http://h/v1?u=@hunter2"])
def test_an_address_with_a_password_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(tree(judge={"kind": "endpoint", "endpoint": {"base_url": address, "model": "m"}}), "test.yaml")
    assert str(caught.value).startswith("test.yaml: judge.endpoint.base_url: is not an http(s) address without a user")
    assert "hunter2" not in str(caught.value)


def test_an_address_of_one_verb_is_refused_with_what_to_write() -> None:
    endpoint = {"base_url": "http://h/v1/chat/completions/", "model": "m"}
    with pytest.raises(ConfigError, match="leave /chat/completions away, so that it ends in /v1"):
        parse_config(tree(judge={"kind": "endpoint", "endpoint": endpoint}), "test.yaml")


@pytest.mark.parametrize(
    "content", ["name: a\nname: b\n", "corpus: {path: a, path: b}\n", "x:\n  - {a: 1, b: 2, a: 3}\n", "[" * 5000]
)
def test_a_name_given_twice_and_endless_nesting_are_no_yaml(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"c\.yaml: is not valid YAML: (?:'\w+' is given twice|nests too deeply)"):
        load_config(path)


def test_an_anchor_may_be_merged_and_its_settings_replaced(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(tree()) + "refine: &off {enabled: false}\nexpand: {<<: *off, enabled: true}\n")
    cfg = load_config(path)
    assert (cfg.refine.enabled, cfg.expand.enabled) == (False, True)


def test_swapping_and_single_mode_exclude_each_other() -> None:
    endpoint = {"base_url": "http://localhost:1/v1", "model": "m"}
    judge = {"kind": "endpoint", "endpoint": endpoint, "swap": True, "mode": "single"}
    with pytest.raises(ConfigError, match="swap changes the order"):
        parse_config(tree(judge=judge), "test.yaml")


def test_overrides_are_read_as_yaml(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(tree()))
    cfg = load_config(path, ("curriculum.rounds=5", "tasks.target={Math: 2, Law: 1}", "expand.enabled=false"))
    assert (cfg.curriculum.rounds, cfg.expand.enabled) == (5, False)
    assert cfg.tasks.target == {Task.MATH: 2, Task.LAW: 1}
    with pytest.raises(ConfigError, match=r"write it as section\.setting=value"):
        load_config(path, ("curriculum",))
    with pytest.raises(ConfigError, match="name is not a section"):
        load_config(path, ("name.x=1",))


@pytest.mark.parametrize("content", [b"", b"- a\n- b\n", b"a: [\n", b"\xff\xfe\x00", b"a: &x [*x, *x]\n"])
def test_a_file_that_is_no_configuration_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tapir init"):
        load_config(tmp_path / "none.yaml")


def test_init_does_not_replace_a_file_unless_told_to(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    write_preset(path, "world")
    with pytest.raises(ConfigError, match="exists already"):
        write_preset(path, "paper")
    write_preset(path, "paper", force=True)
    assert path.read_text() == preset_text("paper")
    with pytest.raises(ConfigError, match="is not one of world, keyless, paper, frugal"):
        write_preset(path, "papers")

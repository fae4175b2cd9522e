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
        ({"difficulty": {"treshold": 2}}, r"difficulty\.treshold: Extra inputs are not permitted"),
        ({"teacher": {"kind": "poll"}}, r"teacher: .*'poll'.*'world', 'pool', 'endpoint'"),
        ({"teacher": {"kind": "pool"}}, r"teacher\.path: Field required"),
        ({"name": "../x"}, r"name: .*pattern"),
        ({"tasks": {"target": {"Maths": 1}}}, r"tasks\.target\.Maths"),
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

"""From a file or a tree of plain values to a configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from tapir.config.base import Config
from tapir.config.run import RunConfig
from tapir.config_text import problems, read_yaml
from tapir.errors import ConfigError

C = TypeVar("C", bound=Config)


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> RunConfig:
    """The configuration in a YAML file, with `section.setting=value` overrides.

    Raises:
        ConfigError: the file cannot be read, is not a mapping, or a setting is unknown or out of range.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read as a configuration ({error}); make one with `tapir init {path}`"
        ) from error
    try:
        tree = read_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds no settings; make a configuration with `tapir init {path}`")
    for override in overrides:
        apply_override(tree, override)
    return parse_config(tree, str(path))


def parse_config(tree: dict[str, Any], origin: str) -> RunConfig:
    """The configuration in a tree of plain values.

    Raises:
        ConfigError: names every wrong setting, its value and what is allowed.
    """
    return _validated(RunConfig, tree, origin)


def parse_section(kind: type[C], tree: dict[str, Any], overrides: Sequence[str], origin: str) -> C:
    """One section of a configuration, with `setting=value` overrides.

    Raises:
        ConfigError: names every wrong setting, its value and what is allowed.
    """
    for override in overrides:
        apply_override(tree, override)
    return _validated(kind, tree, origin)


def _validated(kind: type[C], tree: dict[str, Any], origin: str) -> C:
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {problems(error, kind)}") from error


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Apply one `section.setting=value` to the tree; the value is read as YAML."""
    name, found, text = override.partition("=")
    if not found or not name:
        raise ConfigError(f"override {override!r}: write it as section.setting=value")
    node = tree
    *sections, last = name.split(".")
    for section in sections:
        child = node.setdefault(section, {})
        if not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {section} is not a section")
        node = child
    try:
        node[last] = read_yaml(text)
    except ValueError as error:
        raise ConfigError(f"override {override!r}: the value is not valid YAML") from error

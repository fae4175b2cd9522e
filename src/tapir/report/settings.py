"""The settings of a run, one a line, and which of them differ from the defaults."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tapir.report.reading import RunFiles


@dataclass(frozen=True)
class Setting:
    """One setting."""

    name: str
    value: str
    is_default: bool


@dataclass(frozen=True)
class Settings:
    """What it takes to run this again."""

    settings: tuple[Setting, ...]
    versions: tuple[tuple[str, str], ...]
    students: tuple[tuple[str, str], ...]
    """Each round's student and the digest of its weights."""


def read_settings(run: RunFiles) -> Settings:
    """The resolved configuration, package versions and checkpoints."""
    given = dict(flat(run.config.model_dump(mode="json", exclude_defaults=True)))
    whole = flat(run.config.model_dump(mode="json"))
    versions = {"tapir": run.manifest["tapir"], **run.manifest["versions"]}
    trained = [one for one in run.stages if one.record.get("checkpoint")]
    return Settings(
        settings=tuple(Setting(name, value, name not in given) for name, value in whole),
        versions=tuple((str(name), str(version)) for name, version in versions.items()),
        students=tuple((one.title, str(one.record["checkpoint"]["digest"])) for one in trained),
    )


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values of a tree, in its order; lists of plain values stay on one line."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        for place, inner in enumerate(value, 1):
            yield from flat(inner, f"{name}[{place}]")
    else:
        yield name, _plain(value)


def _plain(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value) or "none"
    if isinstance(value, Mapping):
        return "none"
    return str(value)

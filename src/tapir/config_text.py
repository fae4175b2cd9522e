"""A configuration as text: YAML read strictly, and what is wrong with a tree of settings, in words."""

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_KINDS = {"world", "pool", "endpoint", "reference", "local", "deberta", "oracle", "cascade"}
_SECRET = re.compile(r"(?:^|_)(?:api_?key|key|token|secret|password)(?:_env)?$", re.IGNORECASE)
_QUOTED = re.compile(r"'([^']*)'")
_WORDS = {
    "missing": "is missing; give it a value",
    "union_tag_not_found": "kind is missing; say which kind it is",
    "string_pattern_mismatch": "may hold at most 64 letters, digits, `.`, `-` and `_`, a letter or digit first",
    "tuple_type": "is a list; write it in brackets",
    "string_too_short": "is empty; give it a value",
}
"""Words in place of pydantic's, by type of error."""
_SECTION_TYPES = {"model_type", "model_attributes_type", "dict_type"}
MAX_LEVELS = 6
"""Levels of sections that are searched for a setting's name."""


class _StrictLoader(yaml.SafeLoader):
    """YAML in which no name is given twice in one section."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names: set[str] = set()
        for name, _ in node.value:
            if isinstance(name, yaml.ScalarNode):
                if name.value in names:
                    raise yaml.MarkedYAMLError(problem=f"{name.value!r} is given twice", problem_mark=name.start_mark)
                names.add(name.value)
        return node


def read_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: it is not valid YAML, gives a name twice in one section, or nests too deeply; in one line.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except RecursionError:
        raise ValueError("nests too deeply") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split()).replace('in "<unicode string>", ', "in ")) from error


def problems(error: ValidationError, kind: type[BaseModel]) -> str:
    """Every wrong setting of a tree of `kind`, its value and what is allowed, in one line."""
    return "; ".join(_problem(item, kind) for item in error.errors(include_url=False, include_context=False))


def _problem(item: ErrorDetails, kind: type[BaseModel]) -> str:
    name = _setting(item["loc"])
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        return f"{name}: there is no such setting; {_suggestion(name, kind)}"
    if item["type"] in _SECTION_TYPES:
        message = "is a section; give settings of its own, not one value"
    elif item["type"] in ("enum", "literal_error"):
        message += _nearest(item["input"], _QUOTED.findall(message))
    elif item["type"] == "union_tag_invalid":
        given, _, *known = _QUOTED.findall(message)
        message = f"kind {given!r} is none of {', '.join(map(repr, known))}" + _nearest(given, known)
    return f"{name}: {_WORDS.get(item['type'], message)}{_given(item)}"


def _setting(location: Sequence[int | str]) -> str:
    """The dotted name of a setting, without the tags that pydantic adds for unions and keys."""
    parts = [str(part) for part in location if part != "[key]"]
    kept = [
        part
        for i, part in enumerate(parts)
        if not (part in _KINDS and i and parts[i - 1] in {"teacher", "judge", "classifier"})
    ]
    return ".".join(kept) or "the configuration"


def _given(item: ErrorDetails) -> str:
    """The value as it was given, but for what may be, or may hold, a key."""
    value = item["input"]
    if value is None:
        return " (given: nothing)"
    is_shown = item["type"] != "missing" and isinstance(value, str | int | float | bool)
    is_secret = any(_SECRET.search(str(part)) for part in item["loc"]) or "@" in str(value)
    return f" (given: {value!r})" if is_shown and not is_secret else ""


def _nearest(given: Any, known: Sequence[str]) -> str:
    by_case = {name.lower(): name for name in known}
    found = difflib.get_close_matches(str(given).lower(), by_case, 1)
    return f"; did you mean {by_case[found[0]]!r}?" if found else ""


def _suggestion(name: str, kind: type[BaseModel]) -> str:
    """The setting that was meant: one of the same section, one of that name elsewhere, or what the section knows."""
    known = list(dict.fromkeys(_names(kind)))
    section, _, last = name.rpartition(".")
    beside = {one.rpartition(".")[2]: one for one in known if one.rpartition(".")[0] == section}
    near = difflib.get_close_matches(last.lower(), beside, 1)
    meant = [beside[near[0]]] if near else [one for one in known if one.rpartition(".")[2] == last]
    meant = meant or difflib.get_close_matches(name, known, 1, 0.8)
    if meant:
        return f"did you mean {' or '.join(meant[:3])}?"
    return f"known {'in ' + section if section else 'here'}: {', '.join(beside)}"


def _names(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings below `kind`."""
    for name, field in kind.model_fields.items():
        yield prefix + name
        if prefix.count(".") < MAX_LEVELS:
            for section in _sections(field.annotation):
                yield from _names(section, f"{prefix}{name}.")


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)


def holds_number(annotation: Any) -> bool:
    """Whether a setting of this type is a number and never true or false."""
    types = {annotation, *get_args(annotation)}
    types |= {part for one in types for part in get_args(one)}
    return bool(types & {int, float}) and bool not in types

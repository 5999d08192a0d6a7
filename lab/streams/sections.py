"""Sections of keys from YAML: drift scripts and mapping files are read alike, and wrong keys are named alike."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BeforeValidator, ValidationError

from lab.streams.stream import StreamError
from model.config import Section
from model.encoding.spelling import spell
from model.near_names import did_you_mean

S = TypeVar("S", bound=Section)


def _category(value: object) -> object:
    """YAML reads `5` as a number and `NO` as false: a number has one spelling, but what `NO` was nobody can say."""
    return spell(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Category = Annotated[str, BeforeValidator(_category)]
"""A value of a field, label or domain facet, spelled as the logs' values are (docs/decisions/0086)."""


class _UniqueKeys(yaml.SafeLoader):
    """PyYAML takes the last of two equal keys in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        written = [
            (part.value, part.start_mark.line + 1) for part, _ in node.value if isinstance(part, yaml.ScalarNode)
        ]
        for number, (key, line) in enumerate(written):
            if key != "<<" and key in (earlier for earlier, _ in written[:number]):
                raise ValueError(f"line {line}: the key {key!r} is listed twice: drop one")
        return super().construct_mapping(node, deep)


def parse_section(kind: type[S], text: str, source: str) -> S:
    """A validated section from YAML. Raises StreamError naming `source`, the key and the cure."""
    try:
        values = yaml.load(text, _UniqueKeys)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that does not exist is a ValueError
        raise StreamError(f"{source}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise StreamError(f"{source}: expected keys and values, not {type(values).__name__}")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise StreamError(f"{source}: " + "; ".join(_explain(kind, fault) for fault in error.errors())) from error


def _explain(kind: type[Section], fault: Any) -> str:
    """One error as a sentence; for an unknown key, with the nearest known one."""
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "string_type" and isinstance(fault["input"], bool | date):
        return f"{where}: YAML reads this as {fault['input']!r}, text is wanted: put it in quotes"
    if fault["type"] != "extra_forbidden":
        return f"{where or 'whole file'}: {fault['msg'].removeprefix('Value error, ')}"
    key = str(fault["loc"][-1])
    near = did_you_mean(key, sorted(set(_keys(kind)) - {key}))
    return f"unknown key {key!r} at {where}" + (near or "; see docs/streams.md")


def _keys(kind: type[Section]) -> Iterator[str]:
    """All keys of the sections of `kind`'s package."""
    package = kind.__module__.rpartition(".")[0]
    todo = [Section]
    while todo:
        section = todo.pop()
        todo.extend(section.__subclasses__())
        if section.__module__.rpartition(".")[0] == package:
            yield from section.model_fields

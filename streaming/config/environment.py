"""Configuration values from the environment: `DRIFTLINE_<SECTION>__<KEY>`, lists and sections as JSON.

No settings library is used (docs/decisions/0004), because an error must name the variable and show the correct JSON,
and because a container's environment also holds variables that the orchestrator injects.
"""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from streaming.config.errors import ConfigError

ENV_PREFIX = "DRIFTLINE_"
ENV_FILE = "DRIFTLINE_CONFIG"

_SERVICE = re.compile(r"(^|_)(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")


def environment_values(environment: Mapping[str, str], model: type[BaseModel]) -> dict[str, Any]:
    """The values for `model` in the environment, nested and not validated yet.

    Raises ConfigError for a variable with Driftline's prefix that names no key, is empty, or should be JSON and is not,
    and for two that differ in their capitals alone.
    """
    values: dict[str, Any] = {}
    given: dict[tuple[str, ...], str] = {}
    names = sorted(name for name in environment if _ours(name, environment[name], model))
    for name in sorted(names, key=lambda name: name.count("__")):  # a single key overrides the JSON of its section
        path = _path(name)
        field = _field(model, path)
        if field is None:
            raise ConfigError(_unknown(name, model))
        if (other := given.setdefault(path, name)) != name:
            raise ConfigError(f"{other} and {name} both set {'.'.join(path)}: leave one of them out")
        parents = values
        for part in path[:-1]:
            parents = parents.setdefault(part, {})
        parents[path[-1]] = _value(name, environment[name], ".".join(path), field)
    return values


def foreign_names(environment: Mapping[str, str], model: type[BaseModel]) -> list[str]:
    """Variables with Driftline's prefix that the orchestrator injected for a service named `driftline`; ignored."""
    return sorted(name for name in environment if _prefixed(name) and _injected(name, environment[name], model))


def variable_of(path: tuple[str, ...], environment: Mapping[str, str]) -> str | None:
    """The variable that set the key at `path`, itself or as part of its section; None if none did."""
    upper = {name.upper(): name for name in environment}
    for length in range(len(path), 0, -1):
        name = ENV_PREFIX + "__".join(path[:length]).upper()
        if name in upper:
            return upper[name]
    return None


def key_paths(model: type[BaseModel], prefix: str = "", *, entries: bool = False) -> Iterator[str]:
    """Dotted names of all sections and keys of `model`; with `entries` also of the keys of a list's tables."""
    for name, field in model.model_fields.items():
        yield prefix + name
        inner = field.annotation
        if entries and get_origin(inner) is tuple:
            inner = get_args(inner)[0]
        if is_section(inner):
            yield from key_paths(inner, f"{prefix}{name}.", entries=entries)  # type: ignore[arg-type]


def _prefixed(name: str) -> bool:
    return name.upper().startswith(ENV_PREFIX) and name.upper() != ENV_FILE


def _ours(name: str, value: str, model: type[BaseModel]) -> bool:
    return _prefixed(name) and not _injected(name, value, model)


def _injected(name: str, value: str, model: type[BaseModel]) -> bool:
    """Whether Kubernetes or Docker injected the variable for a service `driftline` or `driftline-...`.

    An injected `..._PORT` is always a URL, which distinguishes it from a mistyped key (`SCORER_PORT` for
    `SCORER__PORT`).
    """
    if _field(model, _path(name)) is not None:
        return False
    rest = name.removeprefix(ENV_PREFIX)
    if _SERVICE.search(rest) is not None:
        return True
    return (rest == "PORT" or rest.endswith("_PORT")) and _SERVICE_URL.match(value) is not None


def _path(name: str) -> tuple[str, ...]:
    return tuple(name[len(ENV_PREFIX) :].lower().split("__"))


def _field(model: type[BaseModel], path: tuple[str, ...]) -> FieldInfo | None:
    field = model.model_fields.get(path[0])
    if field is None or len(path) == 1:
        return field
    return _field(field.annotation, path[1:]) if is_section(field.annotation) else None  # type: ignore[arg-type]


def _unknown(name: str, model: type[BaseModel]) -> str:
    known = [ENV_PREFIX + path.replace(".", "__").upper() for path in key_paths(model)]
    near = difflib.get_close_matches(name.upper(), known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ";"
    return f"environment variable {name} is no key of Driftline{hint} `driftline config` lists them all"


def _value(name: str, text: str, key: str, field: FieldInfo) -> Any:
    if not text.strip() and field.default != "":
        raise ConfigError(f"{name} is empty: {_cure(name, text, key, field)}, or leave the variable out")
    shape = dict if is_section(field.annotation) else list if get_origin(field.annotation) is tuple else None
    if shape is None:
        return text
    try:
        value = json.loads(text, object_pairs_hook=lambda pairs: _once(name, pairs))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, shape):
        kind = "a section" if shape is dict else "a list"
        raise ConfigError(f"{name} is no JSON of {kind}: {_cure(name, text, key, field)}")
    return value


def _once(name: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of `pairs`; as in TOML, no key may come twice."""
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for position, (key, _) in enumerate(pairs) if key in dict(pairs[:position]))
        raise ConfigError(f"{name} sets {twice!r} twice: drop one")
    return made


def _cure(name: str, text: str, key: str, field: FieldInfo) -> str:
    if is_section(field.annotation) or get_origin(field.annotation) is tuple:
        example = shlex.quote(json.dumps(_example(text, field), ensure_ascii=False))
        return f"{key} is given as JSON, for example {name}={example}"
    return f"give {key} a value"


def _example(text: str, field: FieldInfo) -> Any:
    """An example of correct JSON: the given words if they are plain, else the default. No secret is shown."""
    if is_section(field.annotation):
        return _section_example(field.annotation)
    item = get_args(field.annotation)[0]
    words = [word.strip().strip("\"'") for word in text.strip("[]() ").split(",") if word.strip()]
    if item is str and words and not set(text) & set("{}:"):
        return words
    if item in (int, float) and words:
        try:
            return [item(word) for word in words]
        except ValueError:
            pass
    if field.examples:
        return field.examples[0]
    default = field.get_default()
    if default:
        return [
            element.model_dump(mode="json", exclude_defaults=True) if isinstance(element, BaseModel) else element
            for element in default
        ]
    return ["one", "two"]


def _jsonable(value: Any) -> Any:
    return value.model_dump(mode="json", exclude_defaults=True) if isinstance(value, BaseModel) else value


def _section_example(model: Any) -> dict[str, Any]:
    for key, field in model.model_fields.items():
        default = field.get_default()
        if isinstance(default, str | int | float) and default != "":
            return {key: default}
    return {}


def is_section(annotation: Any) -> bool:
    """Whether a value of this type is a section, which is a table of keys."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)

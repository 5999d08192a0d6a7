"""Prints the configuration as a page (Markdown) or as a file to start from (TOML), made from the sections."""

from __future__ import annotations

import json
import textwrap
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import annotated_types
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from streaming.config import ENV_FILE, ENV_PREFIX, Config
from streaming.config.environment import is_section

_NAMES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "secret text",
}
_WIDTH = 110


@dataclass(frozen=True)
class Key:
    """One key of the configuration."""

    section: tuple[str, ...]
    """Names of its sections, outermost first; empty for a top-level key."""
    name: str
    type: str
    """Its type and bounds, in words."""
    default: str
    """Its default as TOML, or a description if it depends on the machine."""
    sentence: str
    environment: str
    """The environment variable that sets it."""

    @property
    def path(self) -> str:
        """Dotted name, as in error messages."""
        return ".".join((*self.section, self.name))


def keys(model: type[BaseModel] = Config, section: tuple[str, ...] = ()) -> Iterator[Key]:
    """Every key of `model`; keys of a sub-section follow the section's own keys."""
    for name, field in model.model_fields.items():
        if not is_section(field.annotation):
            environment = ENV_PREFIX + "__".join((*section, name)).upper()
            default = _default(name, field)
            yield Key(section, name, _type(field), default, field.description or "", environment)
    for name, inner in _sections(model):
        yield from keys(inner, (*section, name))


def entries(model: type[BaseModel] = Config) -> Iterator[tuple[str, type[BaseModel]]]:
    """The keys whose value is a list of tables: dotted name, and the model of one table."""
    for name, field in model.model_fields.items():
        item = _table_of(field.annotation)
        if item is not None:
            yield name, item
    for name, inner in _sections(model):
        yield from ((f"{name}.{below}", item) for below, item in entries(inner))


def as_markdown() -> str:
    """Every key with its type, default, environment variable and sentence: the page `docs/configuration.md`."""
    parts = [
        "# Configuration",
        "Made by `driftline config --markdown`; do not edit by hand. `driftline config` prints the same as a TOML file "
        "with the present values, to start from.",
        f"Driftline reads one TOML file, named by `--config` or `{ENV_FILE}`, and the environment, which wins over the "
        "file. Lists and tables are given as JSON in the environment. An unknown key or a bad value is refused at the "
        "start, by its name.",
    ]
    section: tuple[str, ...] | None = None
    rows: list[Key] = []
    for key in keys():
        if key.section != section and rows:
            parts += _section_page(rows)
            rows = []
        section = key.section
        rows.append(key)
    parts += _section_page(rows)
    for item in dict.fromkeys(item for _, item in entries()):
        names = " and ".join(f"`{name}`" for name, held in entries() if held is item)
        parts += [f"## Each entry of {names}", _sentence(item), _table(list(keys(item)), environment=False)]
    return "\n\n".join(part for part in parts if part)


def as_toml(config: Config) -> str:
    """`config` as a TOML file, each key after its description. Loading the file gives `config` again.

    A key without a value is commented out, and so is a secret, which is never printed.
    """
    return "\n".join(_toml_lines(config, ())).strip()


def entry_as_toml(entry: BaseModel) -> str:
    """One entry of a list of tables, without its heading."""
    return "\n".join(f"{name} = {_toml(getattr(entry, name))}" for name in type(entry).model_fields)


def _section_page(rows: Sequence[Key]) -> list[str]:
    if not rows[0].section:
        return ["## At the top", _table(rows)]
    model: type[BaseModel] = Config
    for name in rows[0].section:
        model = dict(_sections(model))[name]
    return [f"## `[{'.'.join(rows[0].section)}]`", _sentence(model), _table(rows)]


def _table(rows: Sequence[Key], *, environment: bool = True) -> str:
    head = ["Key", "Type", "Default", "Meaning"] + (["Environment"] if environment else [])
    lines = [head, ["---"] * len(head)]
    for key in rows:
        cells = [f"`{key.name}`", key.type, key.default, key.sentence]
        lines.append(cells + ([f"`{key.environment}`"] if environment else []))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _toml_lines(model: BaseModel, section: tuple[str, ...]) -> Iterator[str]:
    tables: list[tuple[str, BaseModel]] = []
    lists: list[tuple[str, Sequence[BaseModel]]] = []
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            tables.append((name, value))
        elif not section and _table_of(field.annotation) is not None:
            lists.append((name, value))
        else:
            yield from _comment(field.description)
            held = value if isinstance(value, tuple) else (value,)
            hidden = value is None or any(isinstance(element, SecretStr) for element in held)
            yield f"# {name} =" if hidden else f"{name} = {_toml(value)}"
    for name, table in tables:
        header = ".".join((*section, name))
        yield from ("", *_comment(_sentence(type(table))), f"[{header}]", *_toml_lines(table, (*section, name)))
    for name, items in lists:
        yield from ("", *_comment(type(model).model_fields[name].description))
        for item in items:
            yield from (f"[[{name}]]", *_toml_lines(item, (name,)))


def _comment(text: str | None) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text or "", _WIDTH - 2)]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, BaseModel):
        pairs = ((name, getattr(value, name)) for name in type(value).model_fields)
        return "{ " + ", ".join(f"{name} = {_toml(held)}" for name, held in pairs if held is not None) + " }"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(held) for held in value) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _sections(model: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    sections = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and is_section(field.annotation):
            sections.append((name, field.annotation))
    return sections


def _table_of(annotation: Any) -> type[BaseModel] | None:
    """The model of one entry, if `annotation` is a list of tables."""
    arguments = get_args(annotation)
    if get_origin(annotation) is tuple and arguments and is_section(arguments[0]):
        return typing.cast("type[BaseModel]", arguments[0])
    return None


def _sentence(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().split("\n", 1)[0]


def _type(field: FieldInfo) -> str:
    bounds = []
    for limit in field.metadata:
        for kind, sign in (
            (annotated_types.Ge, "≥"),
            (annotated_types.Gt, ">"),
            (annotated_types.Le, "≤"),
            (annotated_types.Lt, "<"),
        ):
            if isinstance(limit, kind):
                bounds.append(f"{sign} {getattr(limit, kind.__name__.lower())}")
        pattern = getattr(limit, "pattern", None)
        if pattern:
            bounds.append(_pattern(pattern))
    return " ".join([_annotation(field.annotation), ", ".join(bounds)]).strip()


def _pattern(pattern: str) -> str:
    """A pattern in words: if it only lists choices, as a list."""
    inner = pattern.removeprefix("^(").removesuffix(")$")
    if set(inner) & set("[]()*+.\\"):
        return f"matching `{pattern}`"
    return "(" + ", ".join(f"`{choice}`" for choice in inner.split("|")) + ")"


def _annotation(annotation: Any) -> str:
    if annotation in _NAMES:
        return _NAMES[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotation(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_annotation(argument) for argument in arguments if argument is not type(None))
    if origin is tuple:
        inner = "table" if is_section(arguments[0]) else _annotation(arguments[0])
        return f"list of {inner}" if arguments[-1] is Ellipsis else f"list of {len(arguments)} {inner}s"
    return str(getattr(annotation, "__name__", annotation))


def _default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    if name == "cache_dir":
        return "the user's cache folder"
    value = field.get_default(call_default_factory=True)
    return "none" if value is None else f"`{_toml(value)}`"

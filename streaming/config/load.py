"""Reads the configuration from file and environment, and explains its errors."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model.near_names import did_you_mean
from model.paths import user_path
from streaming.config.environment import ENV_FILE, environment_values, key_paths, variable_of
from streaming.config.errors import ConfigError
from streaming.config.root import Config


def load_config(path: Path | None = None, **overrides: Any) -> Config:
    """The configuration of `path` (or of the file that `DRIFTLINE_CONFIG` names), the environment, and `overrides`.

    Precedence: `overrides`, then the environment, then the file, then the defaults; a section in `overrides` may hold
    some of its keys. Raises ConfigError.
    """
    source = path if path is not None else _named_file()
    values = {} if source is None else read_toml(source)
    for more in (environment_values(os.environ, Config), overrides):
        values = _merged(values, more)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, source)) from error


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file. Raises ConfigError with file, line and cure."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        cure = f"correct the path (--config or {ENV_FILE}), or name none: every key has a default"
        raise ConfigError(f"no configuration file at {path}: {cure}") from None
    except OSError as error:
        cure = "name a TOML file" if path.is_dir() else "make it readable"
        raise ConfigError(f"the configuration file {path} cannot be read ({error.strerror}): {cure}") from error
    try:
        return tomllib.loads(data.decode("utf-8-sig"))  # Windows editors start a file with a byte order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8 text, as TOML is: save the file in UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _named_file() -> Path | None:
    name = os.environ.get(ENV_FILE)
    if name is None:
        return None
    try:
        return user_path(name)
    except ValueError as error:
        raise ConfigError(f"{ENV_FILE}: {error}") from error


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for key, value in above.items():
        old = both.get(key)
        both[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return both


def _near_key(path: tuple[str, ...]) -> str:
    """`did_you_mean` for an unknown key: one of its own section, else that of the same name in another section."""
    parts = [part for part in path if not part.isdigit()]  # a list's tables are numbered
    known = [key.rpartition(".") for key in key_paths(Config, entries=True)]
    siblings = [name for parent, _, name in known if parent == ".".join(parts[:-1])]
    elsewhere = [f"{parent}{dot}{name}" for parent, dot, name in known if name == parts[-1]]
    return did_you_mean(parts[-1], siblings) or (f"; did you mean {elsewhere[0]!r}?" if len(elsewhere) == 1 else "")


_WORDS = {"tuple_type": "a list is wanted", "model_type": "a section with keys is wanted"}
_CHOICES = re.compile(r"\^\(([\w|-]+)\)\$")


def _fault(path: tuple[str, ...], problem: Any) -> str:
    """What is wrong with one key, in words of TOML rather than of Python."""
    kind = problem["type"]
    if kind == "extra_forbidden":
        return f"unknown key{_near_key(path)}"
    if kind == "too_short":
        return f"a list of at least {problem['ctx']['min_length']} is wanted"
    choices = _CHOICES.fullmatch(problem["ctx"]["pattern"]) if kind == "string_pattern_mismatch" else None
    if choices is not None:
        known = choices[1].split("|")
        return f"one of {', '.join(known)} is wanted{did_you_mean(str(problem['input']), known)}"
    return _WORDS.get(kind) or str(problem["msg"]).removeprefix("Value error, ")


def _is_within(inner: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _explain(error: ValidationError, source: Path | None) -> str:
    lines, problems = [], error.errors()
    for problem in problems:
        if problem["type"] == "too_short" and any(_is_within(other["loc"], problem["loc"]) for other in problems):
            continue  # the list is called too short because its entries are faulty, and these are named
        path = tuple(str(part) for part in problem["loc"])
        fault = _fault(path, problem)
        variable = variable_of(path, os.environ)
        origin = f" (from {variable})" if variable is not None else ""
        lines.append(": ".join(part for part in (".".join(path), fault + origin) if part))
    file = f"{source}: " if source is not None else ""
    return file + "; ".join(lines) + " (`driftline config` lists every key with its meaning)"

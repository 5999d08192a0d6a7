"""Keys of the configuration, and the command line in a process with variables added and taken away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from streaming.config import Config


def field_of(environment: str) -> FieldInfo:
    """The declaration of the key that a variable of this name sets."""
    model: type[BaseModel] = Config
    *section, name = environment.removeprefix("DRIFTLINE_").lower().split("__")
    for part in section:
        model = model.model_fields[part].annotation  # type: ignore[assignment]
    return model.model_fields[name]


def value_at(config: Config, path: str) -> Any:
    """The value of a key, as JSON has it; a secret as its text."""
    value: Any = config
    for part in path.split("."):
        value = getattr(value, part)
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _plain(entry: Any) -> Any:
    if isinstance(entry, BaseModel):
        return entry.model_dump(mode="json", exclude_defaults=True)
    return entry.get_secret_value() if isinstance(entry, SecretStr) else entry


def driftline(arguments: list[str], **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Runs the command line with these variables."""
    return run([str(Path(sys.executable).with_name("driftline")), *arguments], environment)


def run(command: list[str], environment: dict[str, str | None]) -> subprocess.CompletedProcess[str]:
    """Runs a command with these variables; None leaves one out."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}
    merged = {name: value for name, value in {**inherited, **environment}.items() if value is not None}
    return subprocess.run(command, capture_output=True, text=True, env=merged, check=False)

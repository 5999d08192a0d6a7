"""docker-compose.yml as the tests read it: anchors merged, variables at their defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def compose() -> dict[str, Any]:
    """The compose file with every `${NAME:-default}` at its default, and `$$` as the `$` that it stands for."""
    text = _VARIABLE.sub(lambda match: match[2], (ROOT / "docker-compose.yml").read_text())
    assert "${" not in text, "a variable of docker-compose.yml has no default"
    loaded: dict[str, Any] = yaml.safe_load(text.replace("$$", "$"))
    return loaded


def services() -> dict[str, dict[str, Any]]:
    """Every service by its name."""
    declared: dict[str, dict[str, Any]] = compose()["services"]
    return declared


def ours() -> dict[str, dict[str, Any]]:
    """The services that run our image."""
    return {name: service for name, service in services().items() if "build" in service}

"""The API key that a command sends to a scorer: its file, its header, and the cure where it opens nothing."""

from __future__ import annotations

from typing import Annotated

import typer

from local.options import path_option
from streaming.config import Right


def read_key(path: str) -> str:
    """The key in a file. Raises typer.BadParameter, which names the option."""
    try:
        key = path_option(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"no key can be read from {path}: {error}") from error
    if not key.isprintable() or not key or " " in key:
        raise typer.BadParameter(
            f"{path} holds no key: one line is wanted, as `driftline key new --key-file` writes it"
        )
    return key


ScorerKey = Annotated[
    str | None,
    typer.Option("--key-file", help="File with the API key that the scorer asks for.", parser=read_key, metavar="FILE"),
]
"""The key itself: a file that holds none is refused before the command does anything."""


def key_headers(key: str | None) -> dict[str, str]:
    """Headers of a request with this key."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def key_cure(status: int, right: Right) -> str:
    """Text after an HTTP status in a message: the cure if the scorer asks for a key with this right, else empty."""
    return f" (it asks for a key with the right `{right}`: name its file by --key-file)" if status in (401, 403) else ""

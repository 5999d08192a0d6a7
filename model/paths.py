"""Paths that a person writes: in a configuration file, in the environment, on a command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

_NAME_MAX, _PATH_MAX = 255, 4_096  # bytes, as Linux has them


def user_path(text: str | Path) -> Path:
    """The path that a person means by `text`: a leading `~` or `~name` is that user's home folder.

    Raises ValueError with the cure for a path that is empty, that no file can have, or whose home is not known.
    A shell expands `~` only where a word begins, so that `--run-dir=~/x`, TOML and containers hand it on as it is.
    """
    written = str(text)
    if not written.strip():
        raise ValueError("the path is empty: name a file or a folder, or leave it out")
    if "\0" in written:
        raise ValueError(f"{written!r} is no path: it holds a zero byte")
    try:
        written.encode()
    except UnicodeEncodeError:
        # Such a name can be opened, but neither TOML nor JSON nor Java's properties can carry it to another process.
        raise ValueError(f"{written!r} is not UTF-8 text: choose a path whose name is") from None
    try:
        path = Path(written).expanduser()
    except RuntimeError:
        raise ValueError(f"the home folder that {written!r} begins with is not known: write the whole path") from None
    # Asking the system whether such a path exists is an error by itself, far from where it was written.
    if len(os.fsencode(path)) >= _PATH_MAX or any(len(os.fsencode(part)) > _NAME_MAX for part in path.parts):
        raise ValueError(f"the path {written[:40]!r}... is too long: no part may be over {_NAME_MAX} bytes")
    return path


def user_name_or_path(text: str) -> str:
    """`text` as it is if it is a name, with its home folder written out if it is a path that begins with `~`."""
    return str(user_path(text)) if text.startswith("~") else text


def _before(value: Any) -> Any:
    return user_path(value) if isinstance(value, str | Path) else value


UserPath = Annotated[Path, BeforeValidator(_before)]
"""A path of the configuration, as `user_path` reads it."""

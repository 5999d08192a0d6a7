"""Paths as people write them in a configuration file, an environment variable or a command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

_NAME_MAX, _PATH_MAX = 255, 4_096  # bytes, as Linux has them


def user_path(text: str | Path) -> Path:
    """The path that a person means by `text`: a leading `~` or `~name` becomes that user's home folder.

    Raises ValueError with the cure for an empty path, an impossible one, or one whose home folder is not known. It is
    needed because a shell expands `~` only at the start of a word: `--run-dir=~/x`, TOML and containers pass it on.
    """
    written = str(text)
    if not written.strip():
        raise ValueError("the path is empty: name a file or a folder, or leave it out")
    if "\0" in written:
        raise ValueError(f"{written!r} is no path: it holds a zero byte")
    try:
        written.encode()
    except UnicodeEncodeError:
        # Such a name can be opened, but TOML, JSON and Java's properties cannot pass it to another process.
        raise ValueError(f"{written!r} is not UTF-8 text: choose a path whose name is") from None
    try:
        path = Path(written).expanduser()
    except RuntimeError:
        raise ValueError(f"the home folder that {written!r} begins with is not known: write the whole path") from None
    # Refused here, because the operating system's own error would come later, far from where the path was written.
    if len(os.fsencode(path)) >= _PATH_MAX or any(len(os.fsencode(part)) > _NAME_MAX for part in path.parts):
        raise ValueError(f"the path {written[:40]!r}... is too long: no part may be over {_NAME_MAX} bytes")
    return path


def user_name_or_path(text: str) -> str:
    """A name unchanged, or a path that begins with `~` with its home folder written out."""
    return str(user_path(text)) if text.startswith("~") else text


def _before(value: Any) -> Any:
    return user_path(value) if isinstance(value, str | Path) else value


UserPath = Annotated[Path, BeforeValidator(_before)]
"""A path in the configuration, read by `user_path`."""

"""Values of command-line options, checked where they are typed."""

from __future__ import annotations

from pathlib import Path

import typer

from model.paths import user_name_or_path, user_path


def path_option(text: str) -> Path:
    """A path, `~` expanded. Raises typer.BadParameter, which names the option."""
    try:
        return user_path(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def name_or_path_option(text: str) -> str:
    """A name, or a path with `~` expanded. Raises typer.BadParameter."""
    try:
        return user_name_or_path(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error

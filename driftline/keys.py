"""`driftline key`: makes API keys and the secrets that sign request ids. Nothing is kept."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated, get_args

import typer
from pydantic import ValidationError

from local.options import path_option
from streaming.config import ConfigError, KeyConfig, Right
from streaming.config_docs import entry_as_toml

app = typer.Typer(
    no_args_is_help=True,
    help="Make API keys, and secrets that sign request ids.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

RIGHTS: tuple[str, ...] = get_args(Right)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Who will hold it, as metrics shall call it: a-z, 0-9, _, . and -.")],
    may: Annotated[str, typer.Option(help=f"What it opens, with commas: {', '.join(RIGHTS)}.")] = "score,feedback",
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="Write the key there, for its owner alone, instead of printing it.", parser=path_option, metavar="FILE"
        ),
    ] = None,
) -> None:
    """Make a key: its entry for the configuration goes to stdout, the key itself, this once, to stderr or a file."""
    from streaming.scorer.access import key_hash, new_key

    key = new_key()
    try:
        entry = KeyConfig.model_validate({"name": name, "hash": key_hash(key), "may": _words(may)})
    except ValidationError as error:
        fault = error.errors()[0]
        where = f"--{fault['loc'][0]}" if fault["loc"][0] == "may" else "the name"
        raise ConfigError(f"{where}: {fault['msg']} (`driftline key new --help` lists what there is)") from None
    if key_file is not None:
        _write_private(key_file, key)
    typer.echo(f"[[access.keys]]\n{entry_as_toml(entry)}")
    if key_file is None:
        typer.echo(f"the key, shown this once: {key}", err=True)


@app.command()
def secret() -> None:
    """Make a secret for access.request_id_secrets."""
    typer.echo(secrets.token_urlsafe(32))


def _words(text: str) -> list[str]:
    return [word for part in text.split(",") if (word := part.strip())]


def _write_private(path: Path, text: str) -> None:
    try:
        # Created with its final mode. An existing file is never overwritten, because its key may still be in use.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} exists: name another file, or delete it") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
    with os.fdopen(handle, "w") as file:
        file.write(text + "\n")

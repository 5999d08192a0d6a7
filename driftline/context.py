"""What every command begins with: the configuration, where errors and logs go, which stream is meant."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.logging import RichHandler

from streaming.config import Config
from streaming.config.environment import foreign_names

if TYPE_CHECKING:
    from lab.streams.choice import StreamChoice

errors = Console(stderr=True)


def settings(context: typer.Context) -> Config:
    """The configuration, read now. Raises ConfigError."""
    config = context.obj()
    assert isinstance(config, Config)
    return config


def log_to_stderr(config: Config) -> None:
    """Plain lines for services; colours where a person looks."""
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(console=errors, show_path=False)
        form = "%(message)s"
    else:
        handler, form = logging.StreamHandler(), "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=config.log_level, handlers=[handler], format=form)
    for name in foreign_names(os.environ, Config):
        logging.getLogger("driftline").debug("%s is a cluster's word for a service, no key of ours: passed over", name)


def stream_choice(
    script: str | None, log: Path | None, mapping: str | None, archive: Path | None = None
) -> StreamChoice:
    """MovieLens 100K, or the script or log that is named."""
    from lab.streams.choice import StreamChoice

    return StreamChoice(script, log, mapping, archive)

"""`driftline`: one command line. Heavy imports stay inside the command that needs them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from driftline import __version__, demo, evaluate, operate, prepare, services
from driftline.command_group import Commands, ConfigSource
from driftline.context import errors, file_problem
from driftline.keys import app as key_app
from local.broker.command import app as broker_app
from local.control.command import app as kernel_app
from local.dead_letters import app as dead_letters_app
from local.options import path_option
from local.state.groups import app as groups_app

app = typer.Typer(
    cls=Commands,
    name="driftline",
    help="Keeps a recommender current while it serves: a frozen backbone, a small kernel that learns from the stream."
    "\n\nNew here? `driftline demo` runs the whole loop on real data on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (services, prepare, operate, demo, evaluate):
    app.add_typer(part.app)
app.add_typer(broker_app, name="broker", rich_help_panel="Parts")
app.add_typer(dead_letters_app, name="dead-letters", rich_help_panel="Parts")
app.add_typer(kernel_app, name="kernel", rich_help_panel="Operate")
app.add_typer(groups_app, name="groups", rich_help_panel="Operate")
app.add_typer(key_app, name="key", rich_help_panel="Set-up")

_OURS = ("driftline", "local", "lab", "streaming", "features", "model")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"driftline {__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="Configuration file (TOML); DRIFTLINE_CONFIG names it too.",
            parser=path_option,
            metavar="FILE",
        ),
    ] = None,
    bootstrap: Annotated[
        str | None, typer.Option(help="Kafka bootstrap servers, instead of the configuration's.", metavar="HOST:PORT")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Where the run keeps its files.", parser=path_option, metavar="FOLDER")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Store the options for the configuration; the command itself reads it, so that `--help` needs none."""
    context.obj = ConfigSource(config, bootstrap, run_dir)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Driftline's own errors are written for people, so their message is shown without a traceback; the
    same for files that the operating system refuses."""
    try:
        app(args=list(arguments) if arguments is not None else None)
    except Exception as error:
        ours = type(error).__module__.split(".")[0] in _OURS
        message = str(error) if ours else file_problem(error)
        if message is None:
            raise
        errors.print("[bold red]error:[/] ", end="")
        errors.print(message, markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)

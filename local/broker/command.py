"""`driftline broker start|stop|status|logs`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from local.broker.errors import BrokerError
from local.broker.local import LocalBroker
from local.options import path_option
from streaming.config import ConfigError, load_config

app = typer.Typer(help="Apache Kafka on this machine, one node, nothing to install.", no_args_is_help=True)
console = Console()
errors = Console(stderr=True)

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder of the broker's data, log and state; default RUN_DIR/broker.",
        parser=path_option,
        metavar="FOLDER",
    ),
]

NOT_RUNNING = 3
"""Exit code of `status` when there is no broker, as service managers have it."""


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (BrokerError, ConfigError) as error:
        errors.print(f"[bold red]error:[/] {type(error).__name__}: ", end="")
        errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _broker(context: typer.Context, data: Path | None, port: int = 0) -> LocalBroker:
    config = context.obj() if context.obj is not None else load_config()
    return LocalBroker(data or config.run_dir / "broker", config.cache_dir, port, console=errors)


@app.command()
def start(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 0,
    data: DataOption = None,
) -> None:
    """Start the broker and leave it running. The first start fetches Kafka (46 jars, about 75 MB) into the cache."""
    with _explained():
        broker = _broker(context, data, port)
        with errors.status("starting Kafka"):
            address = broker.start()
        state = broker.state()
        console.print(f"Kafka answers on [bold]{address}[/]", highlight=False)
        if state is not None:
            console.print(f"  process {state.pid}, {state.java}", highlight=False, soft_wrap=True)
            console.print(f"  log     {state.log}", highlight=False, soft_wrap=True)
        console.print(f"  use it  export DRIFTLINE_KAFKA__BOOTSTRAP={address}", highlight=False, soft_wrap=True)


@app.command()
def stop(context: typer.Context, data: DataOption = None) -> None:
    """Stop the broker; its data stays."""
    with _explained():
        broker = _broker(context, data)
        with errors.status("stopping Kafka"):
            broker.stop()
        console.print(f"Kafka on {broker.data_dir} has ended", highlight=False, soft_wrap=True)


@app.command()
def status(context: typer.Context, data: DataOption = None) -> None:
    """Say whether the broker runs, and where (exit code 0 if it runs, 3 if not)."""
    with _explained():
        broker = _broker(context, data)
        state = broker.state()
        if state is None:
            console.print(f"no broker runs on {broker.data_dir}", highlight=False, soft_wrap=True)
            raise typer.Exit(NOT_RUNNING)
        console.print(f"Kafka runs on [bold]{state.address}[/]", highlight=False)
        console.print(f"  process {state.pid}, {state.java}", highlight=False, soft_wrap=True)
        console.print(f"  data    {broker.data_dir}", highlight=False, soft_wrap=True)
        console.print(f"  log     {state.log}", highlight=False, soft_wrap=True)


@app.command()
def logs(
    context: typer.Context,
    data: DataOption = None,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Last lines to show.", min=1)] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing new lines until Ctrl-C.")] = False,
) -> None:
    """Show the end of the broker's log."""
    with _explained():
        broker = _broker(context, data)
        if not broker.log_file.exists():
            errors.print(f"{broker.log_file} does not exist: no broker was started on this folder", soft_wrap=True)
            raise typer.Exit(1)
        console.print(broker.tail(lines), markup=False, highlight=False, soft_wrap=True)
        if follow:
            _follow(broker.log_file)


def _follow(path: Path) -> None:
    with path.open(encoding="utf-8", errors="replace") as file:
        file.seek(0, 2)
        while True:
            line = file.readline()
            if line:
                console.print(line.rstrip("\n"), markup=False, highlight=False, soft_wrap=True)
            else:
                time.sleep(0.2)

"""Commands for operators."""

from __future__ import annotations

import re
from typing import Annotated

import typer
from rich.console import Console

from driftline.context import log_to_stderr, settings

app = typer.Typer()
_NAME = re.compile(r"[\w-][\w.-]{0,199}")
_TABLE_WIDTH = 110
"""Columns that the table of `off-policy` needs so that no figure is broken in two."""


def _folder_name(name: str | None) -> str | None:
    """The name, unless it would lead out of the folder that it names a part of."""
    if name is not None and not _NAME.fullmatch(name):
        raise typer.BadParameter(f"{name!r} names no folder: give letters, digits, dots, underscores and hyphens")
    return name


@app.command("replay-log", rich_help_panel="Operate")
def replay_log(
    context: typer.Context,
    group: Annotated[str, typer.Option(help="Kernel group.")],
    into: Annotated[
        str,
        typer.Option(help="Name of the result: a folder in `run_dir`/replays.", metavar="NAME", callback=_folder_name),
    ],
    from_offset: Annotated[int | None, typer.Option(help="Begin at this offset of the group's traffic.", min=0)] = None,
    from_time: Annotated[float | None, typer.Option(help="Begin at this broker time, epoch seconds.")] = None,
    until_offset: Annotated[int | None, typer.Option(help="End before this offset.", min=0)] = None,
    until_time: Annotated[float | None, typer.Option(help="End before this broker time, epoch seconds.")] = None,
    skip_from: Annotated[int | None, typer.Option(help="Leave out what is from this offset on ..", min=0)] = None,
    skip_to: Annotated[int | None, typer.Option(help=".. and before this one.", min=0)] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Begin with the state of an earlier replay.", metavar="NAME", callback=_folder_name),
    ] = None,
    publish: Annotated[bool, typer.Option("--publish", help="Make the result the group's state.")] = False,
    by: Annotated[str, typer.Option(help="Who does this, for the audit.")] = "operator",
) -> None:
    """Learn a group's traffic again and rebuild its kernel, bit for bit; leave a bad span out if one is named.

    Says whether the result equals what the log has. Processors must not run while it is published.
    """
    config = settings(context)
    log_to_stderr(config)
    from local.state.replay_log import Point, ReplayOptions, run_replay_log, skip_span

    folder = config.run_dir / "replays"
    order = ReplayOptions(
        group,
        folder / into / group,
        Point(from_offset, from_time),
        Point(until_offset, until_time),
        skip_span(skip_from, skip_to),
        None if start is None else folder / start / group,
        publish,
        by,
    )
    raise typer.Exit(run_replay_log(config, order, Console(soft_wrap=True)))


@app.command(rich_help_panel="Operate")
def uplift(
    context: typer.Context,
    group: Annotated[str | None, typer.Option(help="Kernel group; default is all of them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what the live arm is worth: its users against control users, by an interval that may be watched any time."""
    from local.control.uplift import print_uplift

    print_uplift(settings(context), group, Console(), as_json=as_json)


@app.command("off-policy", rich_help_panel="Operate")
def off_policy(
    context: typer.Context,
    group: Annotated[str, typer.Option(help="Kernel group.")],
    from_time: Annotated[float | None, typer.Option(help="Begin at this broker time, epoch seconds.")] = None,
    until_time: Annotated[float | None, typer.Option(help="End before this broker time, epoch seconds.")] = None,
    kernel: Annotated[
        list[int] | None,
        typer.Option(help="Judge this published kernel too (repeatable); `driftline kernel list` shows them.", min=1),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Estimate what other policies would have been clicked at the first place, from explored requests in the log."""
    config = settings(context)
    log_to_stderr(config)
    from local.state.off_policy import print_off_policy

    console = Console()
    console.width = max(console.width, _TABLE_WIDTH)
    print_off_policy(config, group, (from_time, until_time), kernel or [], console, as_json=as_json)

"""`driftline groups migrate`: kernel groups divided or merged without starting over. Heavy imports stay inside."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from local.options import path_option
from streaming.config import Config, load_config

app = typer.Typer(help="Divide and merge kernel groups.", no_args_is_help=True)


@app.callback()
def _groups() -> None:
    """Keep `migrate` a command of its own."""


@app.command()
def migrate(
    context: typer.Context,
    old: Annotated[
        Path,
        typer.Option("--from", help="Configuration file of the old groups.", parser=path_option, metavar="OLD.toml"),
    ],
    by: Annotated[str | None, typer.Option(help="Who does this; default is the user of this machine.")] = None,
) -> None:
    """Begin the groups of this configuration with what the groups of an older one know.

    A group that takes domains of one old group gets a copy of its learner, of several the sum of theirs. Processors of
    both configurations must not run meanwhile.
    """
    new = context.obj()
    assert isinstance(new, Config)
    run_migration(load_config(old), new, by or getpass.getuser(), Console(soft_wrap=True))


def run_migration(old: Config, new: Config, by: str, console: Console) -> None:
    """Creates the new topics and writes each group's first state. Raises Driftline's named errors."""
    from streaming.backbone import open_backbone
    from streaming.rebuild.migrate import descents, migrate
    from streaming.topics import ensure_topics

    planned, opened = descents(old, new), open_backbone(new)
    ensure_topics(new)
    for descent in planned:
        state = migrate(old, new, opened, descent, by)
        if state is None:
            console.print(f"group {descent.group}: no old group has its domains, so it starts as the identity")
            continue
        parents = " + ".join(parent.group if parent.whole else f"{parent.group} (part)" for parent in descent.parents)
        console.print(
            f"group {descent.group}: begins with {parents}, {state.snapshot.examples:,} examples, {len(state.rows):,} "
            "live rows",
            highlight=False,
        )
    console.print(f"start processors and scorers with the new configuration; {new.backbone_dir} goes with it")

"""Commands that run the whole system on one machine, and compare its base with other models."""

from __future__ import annotations

from typing import Annotated

import typer

from driftline.context import errors, log_to_stderr, settings, stream_choice
from driftline.options import Archive, Limit, LogFile, MappingName, Rate, ScriptName
from local.api_keys import ScorerKey

app = typer.Typer()


@app.command(rich_help_panel="Demo and evaluation")
def replay(
    context: typer.Context,
    scorer: Annotated[str | None, typer.Option(help="Address of the scorer; default is the configured one.")] = None,
    key: ScorerKey = None,
    rate: Rate = 120.0,
    limit: Limit = None,
    profiles: Annotated[bool, typer.Option(help="Publish items and users first.")] = True,
    script: ScriptName = None,
    log: LogFile = None,
    mapping: MappingName = None,
    archive: Archive = None,
) -> None:
    """Play the second half of MovieLens 100K, a script or a log as live traffic against a running system."""
    config = settings(context)
    log_to_stderr(config)
    from lab.streams.pacing import Pace
    from local.replay.run import run_replay

    choice = stream_choice(script, log, mapping, archive)
    raise typer.Exit(
        run_replay(
            config, choice, scorer=scorer, key=key, pace=Pace(rate), limit=limit, profiles=profiles, console=errors
        )
    )


@app.command(rich_help_panel="Demo and evaluation")
def demo(
    context: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End what `--keep` left running.")] = False,
    rate: Rate = 120.0,
    limit: Limit = None,
    script: ScriptName = None,
    log: LogFile = None,
    mapping: MappingName = None,
    archive: Archive = None,
) -> None:
    """Run the whole loop on this machine: real data, real Kafka, real Feast, and a report of what happened.

    Plays MovieLens 100K, or a script or a log if one is named.
    """
    from local.demo.command import run_demo, stop_demo

    config = settings(context)
    if stop:
        raise typer.Exit(stop_demo(config))
    choice = stream_choice(script, log, mapping, archive)
    raise typer.Exit(
        run_demo(config, keep=keep, limit=limit, rate=rate, bootstrap=context.obj.bootstrap, stream=choice)
    )


@app.command(rich_help_panel="Demo and evaluation")
def bases(
    context: typer.Context,
    script: ScriptName = None,
    log: LogFile = None,
    mapping: MappingName = None,
    archive: Archive = None,
    seeds: Annotated[int, typer.Option(help="How many seeds.", min=1)] = 3,
) -> None:
    """Compare the frozen base with what could be trained instead on the same half: counters, regressions, trees."""
    from lab.bases.command import run_bases

    typer.echo(run_bases(settings(context), stream_choice(script, log, mapping, archive), seeds, errors))

"""Commands that prepare a system, and those that print its settings and metrics."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from driftline.context import errors, log_to_stderr, settings, stream_choice
from driftline.options import Archive, BackboneFolder, LogFile, MappingName, ScriptName

app = typer.Typer()


@app.command(rich_help_panel="Set-up")
def setup(context: typer.Context) -> None:
    """Create the topics and the feature store's tables. Harmless to repeat."""
    config = settings(context)
    log_to_stderr(config)
    from features.store.feature_store import FeatureStore
    from streaming.clients import wait_for_broker
    from streaming.topics import ensure_topics

    log = logging.getLogger("driftline")
    wait_for_broker(config.kafka, log)
    created = ensure_topics(config)
    log.info("topics: %s", f"created {', '.join(created)}" if created else "all there")
    FeatureStore(config.features, config.run_dir).apply()
    log.info("feature store: ready (%s)", config.features.online_store)


@app.command(rich_help_panel="Set-up")
def data(context: typer.Context, archive: Archive = None) -> None:
    """Bring MovieLens 100K into the cache, checked by its hash."""
    from lab.streams.choice import StreamChoice, open_recording

    open_recording(settings(context), StreamChoice(archive=archive), errors)


@app.command(rich_help_panel="Set-up")
def pretrain(
    context: typer.Context,
    script: ScriptName = None,
    log: LogFile = None,
    mapping: MappingName = None,
    archive: Archive = None,
) -> None:
    """Train the backbone on the first half of the data (MovieLens 100K, a script or a log), once, and freeze it."""
    from lab.pretraining import run_pretrain

    raise typer.Exit(run_pretrain(settings(context), stream_choice(script, log, mapping, archive)))


@app.command("fine-tune", rich_help_panel="Set-up")
def fine_tune(
    context: typer.Context,
    source: BackboneFolder,
    scene: Annotated[str, typer.Option(help="The new scene; the configuration declares it as the last.")],
    method: Annotated[
        str,
        typer.Option(
            help="What learns: full (what is not frozen, for all scenes), or parameters of the scene's own "
            "by lora, houlsby, peterrec, peterrec-parallel or conure."
        ),
    ] = "full",
    freeze: Annotated[
        str | None,
        typer.Option(
            help="Levels that stay as they are: L0 to L3, none, all; by default L0,L1 for full, else none.",
            metavar="LEVELS",
        ),
    ] = None,
    examples: Annotated[
        int | None, typer.Option(help="Learn from the scene's first so many examples alone.", min=2)
    ] = None,
    script: ScriptName = None,
    log: LogFile = None,
    mapping: MappingName = None,
) -> None:
    """Make a backbone for one scene more out of an old one, from the scene's examples in a script or a log."""
    from lab.fine_tuning.command import FineTuneOptions, levels_of, method_of, run_fine_tune

    way = method_of(method)
    levels = levels_of(freeze or ("none" if way else "L0,L1"))
    order = FineTuneOptions(source, scene, levels, examples, way)
    raise typer.Exit(run_fine_tune(settings(context), stream_choice(script, log, mapping), order))


@app.command("config", rich_help_panel="Set-up")
def show_config(
    context: typer.Context,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a Markdown table instead of TOML.")] = False,
    script: ScriptName = None,
    log: LogFile = None,
    mapping: MappingName = None,
) -> None:
    """Print every key with its meaning and present value: a configuration file to start from.

    With a stream, the file contains its domains and fields.
    """
    from lab.streams.fit import config_for
    from streaming.config_docs import as_markdown, as_toml

    if markdown:
        typer.echo(as_markdown())
        return
    typer.echo(as_toml(config_for(settings(context), stream_choice(script, log, mapping), errors)))


@app.command("metrics", rich_help_panel="Set-up")
def show_metrics() -> None:
    """Print every metric with its type, unit, labels and meaning, as a Markdown page."""
    from streaming.monitoring.catalogue import as_markdown

    typer.echo(as_markdown())

"""The processes of a running system."""

from __future__ import annotations

import typer

from driftline.context import log_to_stderr, settings

app = typer.Typer()


@app.command(rich_help_panel="Parts")
def ingest(context: typer.Context) -> None:
    """Consume outside events: check them, keep profiles in Feast, route traffic to its kernel group."""
    config = settings(context)
    log_to_stderr(config)
    from streaming.ingest import run_ingest

    raise typer.Exit(run_ingest(config))


@app.command(rich_help_panel="Parts")
def process(context: typer.Context) -> None:
    """Join impressions with feedback and fine-tune the kernel for ever."""
    config = settings(context)
    log_to_stderr(config)
    from streaming.processor.run import run_processor

    raise typer.Exit(run_processor(config))


@app.command(rich_help_panel="Parts")
def serve(context: typer.Context) -> None:
    """Serve scores over HTTP with the newest good kernel."""
    config = settings(context)
    log_to_stderr(config)
    from streaming.scorer import run_scorer

    raise typer.Exit(run_scorer(config))

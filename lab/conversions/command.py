"""The entry of `driftline evaluate --conversions`."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from lab.conversions.tables import CvrReport, markdown, report_of, tables
from lab.conversions.trial import run_conversion_trial
from lab.evaluate.command import warm_up
from lab.evaluate.named_tables import print_location, show_tables, write_report
from lab.evaluate.options import ComparisonOptions
from lab.evaluate.plan import KERNEL, Plan
from lab.evaluate.pool import ensure_writable
from lab.evaluate.trials import run_trials
from lab.streams.sources import NamedStreams, Source, choose
from model.config import BackboneConfig
from streaming.config import Config

SEEDS, QUICK_SEEDS = 3, 2
SCRIPT, DATA_SET = "shop", "movielens-favourites"
"""Played where no stream is named."""


class NoConversionsError(ValueError):
    """The configured backbone or a stream cannot be asked; the message names the key or the stream."""


def run_conversions(config: Config, order: ComparisonOptions, *, console: Console | None = None) -> CvrReport:
    """Runs what is missing, writes `conversions.json` and `.md` and shows the tables.

    Backbones are trained for both tasks, whatever `backbone.tasks` says. Raises NoConversionsError, OutFolderError,
    StreamError, DataUnavailableError or EvaluationFailedError; each message names the cure.
    """
    console, begun = console or Console(), time.monotonic()
    _refuse(config.backbone)
    ensure_writable(order.out)
    plan = order.plan(
        config, _sources(order), (KERNEL,), order.seeds_or(SEEDS, quick=QUICK_SEEDS),
        backbone=config.backbone.changed(tasks="ctr_ctcvr"),
    )  # fmt: skip
    _refuse_clicks_alone(plan)
    warm_up(plan, console)
    tasks = [(source, seed) for seed in plan.seeds for source in plan.sources]
    trials = run_trials(plan, run_conversion_trial, tasks, order.processes, console, title="conversions")
    streams = [source.name for source in plan.sources]
    report = report_of(sorted(trials, key=lambda trial: (streams.index(trial.stream), trial.seed)), plan.seeds)
    write_report(order.out, "conversions", report.to_json(), markdown(report))
    show_tables(tables(report), console)
    print_location(order.out / "conversions.md", time.monotonic() - begun, console)
    return report


def _refuse(backbone: BackboneConfig) -> None:
    if backbone.history.length:
        raise NoConversionsError(
            f"--conversions counts clicked items alone, but backbone.user_encoder is {backbone.user_encoder!r}, which "
            "reads histories of all: set it to none"
        )


def _refuse_clicks_alone(plan: Plan) -> None:
    for source in plan.sources:
        if not source.open(plan.seeds[0], plan.cache_dir).converts:
            raise NoConversionsError(
                f"--conversions: the stream {source.name} knows of none: name them (`interactions.conversion` of a "
                f"mapping, `conversions` of a script), or take one that has them (--script {SCRIPT}, --mapping "
                f"{DATA_SET})"
            )


def _sources(order: ComparisonOptions) -> list[Source]:
    """The streams that are named, or a script and real people."""
    if order.streams:
        return choose(order.streams, quick=order.quick)
    scripted = choose(NamedStreams(script=Path(SCRIPT)), quick=order.quick)
    return scripted if order.quick else [*scripted, *choose(NamedStreams(mapping=DATA_SET), quick=False)]

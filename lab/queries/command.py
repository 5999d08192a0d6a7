"""The entry of `driftline evaluate --queries`."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from lab.evaluate.command import warm_up
from lab.evaluate.named_tables import print_location, show_tables, write_report
from lab.evaluate.options import ComparisonOptions
from lab.evaluate.plan import KERNEL, Plan
from lab.evaluate.pool import ensure_writable
from lab.evaluate.trials import run_trials
from lab.queries.table import QueryReport, markdown, report_of, sentences, tables
from lab.queries.trial import BOTH, BY, QueryTrial, read_by, run_query_trial, ways_to_read
from lab.streams import search_suite
from lab.streams.sources import NamedStreams, Source, choose
from model.backbone.schema import BackboneRefused
from model.config import BackboneConfig
from streaming.config import Config

SEEDS, QUICK_SEEDS = 3, 2


def run_queries(config: Config, order: ComparisonOptions, *, console: Console | None = None) -> QueryReport:
    """Runs what is missing, writes `queries.json` and `.md` and shows the tables.

    Raises BackboneRefused for a backbone that can read no query, OutFolderError, StreamError (also for a stream without
    queries), DataUnavailableError or EvaluationFailedError; each message names the cure.
    """
    console, begun = console or Console(), time.monotonic()
    _ensure_fits(config.backbone)
    ensure_writable(order.out)
    plan = order.plan(
        config, _sources(order), (KERNEL,), order.seeds_or(SEEDS, quick=QUICK_SEEDS),
        backbone=config.backbone.changed(query_aspects=BY[BOTH]),
    )  # fmt: skip
    warm_up(plan, console)
    report = report_of(execute(plan, console, order.processes), plan.config.backbone.gating)
    write_report(order.out, "queries", report.to_json(), markdown(report))
    show_tables(tables(report), console)
    for sentence in sentences(report):
        console.print(sentence, highlight=False)
    print_location(order.out / "queries.md", time.monotonic() - begun, console)
    return report


def _ensure_fits(backbone: BackboneConfig) -> None:
    if backbone.factory:
        raise BackboneRefused("--queries trains the foundation model: leave backbone.factory empty")
    try:
        read_by(backbone, BOTH)
    except ValueError as error:
        raise BackboneRefused(f"--queries: {error}") from None


def _sources(order: ComparisonOptions) -> list[Source]:
    """The streams that are named, or the scripts whose users ask for something."""
    named = [order.streams] if order.streams else [NamedStreams(script=Path(name)) for name in search_suite()]
    return [source for stream_name in named for source in choose(stream_name, quick=order.quick)]


def execute(plan: Plan, console: Console, processes: int) -> list[QueryTrial]:
    """Every variant on every stream and seed, in the order of streams, then variants, then seeds."""
    first = plan.seeds[0]
    variants = [(source, by) for source in plan.sources for by in ways_to_read(source.open(first, plan.cache_dir))]
    tasks = [(source, seed, by) for seed in plan.seeds for source, by in variants]
    trials = run_trials(
        plan, run_query_trial, tasks, processes, console, title="backbones", note=lambda trial: f": query by {trial.by}"
    )
    streams, kinds = [source.name for source in plan.sources], list(BY)
    return sorted(trials, key=lambda trial: (streams.index(trial.stream), kinds.index(trial.by), trial.seed))

"""The entry of `driftline evaluate --queries`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from rich.console import Console

from lab.evaluate.command import warm_up
from lab.evaluate.plan import KERNEL, Plan, make_plan
from lab.evaluate.pool import each, ensure_writable, workers
from lab.evaluate.tables import show_tables
from lab.progress import bars
from lab.queries.table import QueryReport, markdown, report_of, sentences, tables
from lab.queries.trial import BY, QueryTrial, read_by, try_queries
from lab.streams import search_suite
from lab.streams.sources import Source, choose
from model.backbone.schema import BackboneRefused
from model.config import BackboneConfig
from model.whole_files import write_whole
from streaming.config import Config

SEEDS, QUICK_SEEDS = 3, 2


def run_queries(
    config: Config,
    *,
    suite: str | None = None,
    script: Path | None = None,
    log: Path | None = None,
    mapping: str | None = None,
    seeds: int | None = None,
    quick: bool = False,
    out: Path,
    processes: int | None = None,
    console: Console | None = None,
) -> QueryReport:
    """Runs what is missing, writes `queries.json` and `.md` to `out` and shows the tables.

    Raises BackboneRefused for a backbone that can read no query, OutFolderError, StreamError (also for a stream without
    queries), DataUnavailableError or EvaluationFailedError; each message names the cure.
    """
    console, begun = console or Console(), time.monotonic()
    _ensure_fits(config.backbone)
    ensure_writable(out)
    plan = make_plan(
        _sources(suite, script, log, mapping, quick=quick), (KERNEL,), seeds or (QUICK_SEEDS if quick else SEEDS), out,
        config.cache_dir, quick=quick, kernel=config.kernel, learner=config.learner, live=config.live,
        backbone=read_by(config.backbone, "both"),
    )  # fmt: skip
    warm_up(plan, console)
    report = report_of(execute(plan, console, processes or os.cpu_count() or 1), plan.config.backbone.gating)
    write_whole(out / "queries.json", json.dumps(report.to_json(), indent=1) + "\n")
    write_whole(out / "queries.md", markdown(report))
    show_tables(tables(report), console)
    for sentence in sentences(report):
        console.print(sentence, highlight=False)
    console.print(f"{out / 'queries.md'} ({time.monotonic() - begun:.0f} s)", highlight=False, soft_wrap=True)
    return report


def _ensure_fits(backbone: BackboneConfig) -> None:
    if backbone.factory:
        raise BackboneRefused("--queries trains the foundation model: leave backbone.factory empty")
    try:
        read_by(backbone, "both")
    except ValueError as error:
        raise BackboneRefused(f"--queries: {error}") from None


def _sources(
    suite: str | None, script: Path | None, log: Path | None, mapping: str | None, *, quick: bool
) -> list[Source]:
    """The streams that are named, or the scripts whose users ask for something."""
    if any((suite, script, log, mapping)):
        return choose(suite, script, log, mapping, quick=quick)
    return [one for name in search_suite() for one in choose(None, Path(name), None, None, quick=quick)]


def execute(plan: Plan, console: Console, processes: int) -> list[QueryTrial]:
    """Every variant on every stream and seed, in the order of streams, then variants, then seeds."""
    tasks = [(source, seed, by) for seed in plan.seeds for source in plan.sources for by in BY]
    tried = []
    with workers(processes, None), bars(console) as progress:
        bar = progress.add_task("backbones", total=len(tasks), note=f"{len(BY)} variants")
        for one in each(plan, try_queries, tasks):
            progress.update(bar, advance=1, note=f"{one.stream}, seed {one.seed}: query by {one.by}")
            tried.append(one)
    streams, variants = [source.name for source in plan.sources], list(BY)
    return sorted(tried, key=lambda t: (streams.index(t.stream), variants.index(t.by), t.seed))

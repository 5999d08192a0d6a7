"""The entry of `driftline evaluate --conversions`."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from lab.conversions.tables import CvrReport, markdown, report_of, tables
from lab.conversions.trial import try_conversions
from lab.evaluate.command import warm_up
from lab.evaluate.plan import KERNEL, Plan, make_plan
from lab.evaluate.pool import each, ensure_writable, workers
from lab.evaluate.tables import show_tables
from lab.progress import bars
from lab.streams.sources import Source, choose
from model.config import BackboneConfig
from model.whole_files import write_whole
from streaming.config import Config

SEEDS, QUICK_SEEDS, TUNING_SEEDS = 3, 2, (1_000, 1_001)
SCRIPT, DATA_SET = "shop", "movielens-favourites"
"""Played where no stream is named."""


class NoConversionsError(ValueError):
    """The configured backbone or a stream cannot be asked; the message names the key or the stream."""


def run_conversions(
    config: Config,
    *,
    suite: str | None = None,
    script: Path | None = None,
    log: Path | None = None,
    mapping: str | None = None,
    seeds: int | None = None,
    quick: bool = False,
    tune: bool = False,
    out: Path,
    processes: int | None = None,
    console: Console | None = None,
) -> CvrReport:
    """Runs what is missing, writes `conversions.json` and `.md` to `out` and shows the tables.

    Backbones are trained for both tasks, whatever `backbone.tasks` says; `tune` takes the tuning seeds. Raises
    NoConversionsError, OutFolderError, StreamError, DataUnavailableError or EvaluationFailedError; each message names
    the cure.
    """
    console, begun = console or Console(), time.monotonic()
    _refuse(config.backbone)
    ensure_writable(out)
    plan = replace(
        make_plan(
            _sources(suite, script, log, mapping, quick=quick), (KERNEL,), 1, out, config.cache_dir, quick=quick,
            kernel=config.kernel, learner=config.learner, live=config.live,
            backbone=config.backbone.changed(tasks="ctr_ctcvr"),
        ),
        seeds=TUNING_SEEDS if tune else tuple(range(seeds or (QUICK_SEEDS if quick else SEEDS))),
    )  # fmt: skip
    _refuse_clicks_alone(plan)
    warm_up(plan, console)
    report = _execute(plan, console, processes or os.cpu_count() or 1)
    write_whole(out / "conversions.json", json.dumps(report.to_json(), indent=1) + "\n")
    write_whole(out / "conversions.md", markdown(report))
    show_tables(tables(report), console)
    console.print(f"{out / 'conversions.md'} ({time.monotonic() - begun:.0f} s)", highlight=False, soft_wrap=True)
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


def _sources(
    suite: str | None, script: Path | None, log: Path | None, mapping: str | None, *, quick: bool
) -> list[Source]:
    """The streams that are named, or a script and real people."""
    if any((suite, script, log, mapping)):
        return choose(suite, script, log, mapping, quick=quick)
    scripted = choose(None, Path(SCRIPT), None, None, quick=quick)
    return scripted if quick else [*scripted, *choose(None, None, None, DATA_SET, quick=False)]


def _execute(plan: Plan, console: Console, processes: int) -> CvrReport:
    trials = []
    with workers(processes, None), bars(console) as progress:
        tasks = [(source, seed) for seed in plan.seeds for source in plan.sources]
        task = progress.add_task("conversions", total=len(tasks), note="")
        for trial in each(plan, try_conversions, tasks):
            trials.append(trial)
            progress.update(task, advance=1, note=f"{trial.stream}, seed {trial.seed}")
    order = [source.name for source in plan.sources]
    return report_of(sorted(trials, key=lambda one: (order.index(one.stream), one.seed)), plan.seeds)

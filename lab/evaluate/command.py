"""The entry of `driftline evaluate`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lab.bases.presets import known_base
from lab.evaluate.plan import Plan, make_plan
from lab.evaluate.pool import ensure_writable, execute
from lab.evaluate.report import EvaluationReport, make_report
from lab.evaluate.tables import markdown, show
from lab.streams import ensure_conversions, ensure_queries
from lab.streams.sources import choose
from model.whole_files import write_whole
from streaming.config import Config

OUT = Path("runs/evaluate")
SEEDS, QUICK_SEEDS = 5, 2


def run_evaluate(
    config: Config,
    *,
    suite: str | None = None,
    script: Path | None = None,
    log: Path | None = None,
    mapping: str | None = None,
    adapters: Sequence[str] | None = None,
    seeds: int | None = None,
    quick: bool = False,
    out: Path = OUT,
    processes: int | None = None,
    cluster: str | None = None,
    base: str | None = None,
    console: Console | None = None,
) -> EvaluationReport:
    """Runs what is missing, writes `report.json`, `report.md`, `report.html` and PNG files to `out`, shows the table.

    `suite` is standard, scripted, unmatched or one of the ways to play MovieLens 100K; `mapping` is a file or the name
    of a public data set; `base` names one of `lab.bases.presets`. Called again with the same settings and code,
    finished runs are taken from `out`. `cluster` is the address of a Dask scheduler whose workers run it. Raises
    OutFolderError, StreamError, UnknownAdapterError, UnknownBaseError, DataUnavailableError, ClusterUnavailableError or
    EvaluationFailedError; each message names the cure.
    """
    console = console or Console()
    begun = time.monotonic()
    ensure_writable(out)
    preset = known_base(base, config.backbone) if base is not None else None
    sources = choose(suite, script, log, mapping, quick=quick)
    chosen, count = tuple(adapters) if adapters else None, seeds or (QUICK_SEEDS if quick else SEEDS)
    plan = make_plan(
        sources, chosen, count, out, config.cache_dir, quick=quick, kernel=config.kernel, learner=config.learner,
        live=config.live, backbone=preset.backbone if preset else config.backbone,
        pretrain=preset.pretrain if preset else None,
    )  # fmt: skip
    warm_up(plan, console)
    report = make_report(plan, execute(plan, console, processes or os.cpu_count() or 1, cluster))
    write(report, out)
    show(report, console)
    console.print(f"{out / 'report.html'} ({time.monotonic() - begun:.0f} s)", highlight=False, soft_wrap=True)
    return report


def write(report: EvaluationReport, out: Path) -> None:
    """All files of a report."""
    from lab.evaluate.page import page
    from lab.evaluate.plots import pictures

    out.mkdir(parents=True, exist_ok=True)
    drawn = pictures(report)
    write_whole(out / "report.json", json.dumps(report.to_json(), indent=1) + "\n")
    write_whole(out / "report.md", markdown(report))
    write_whole(out / "report.html", page(report, drawn))
    for name, data in drawn.items():
        write_whole(out / name, data)


def warm_up(plan: Plan, console: Console) -> None:
    """Data and text vectors are fetched once, before the processes would all do it; wrong inputs are refused here."""
    from lab.evaluate.work import text_vectors

    texts: list[str] = []
    for source in plan.sources:
        stream = source.open(plan.seeds[0], plan.cache_dir)
        ensure_conversions(plan.config.backbone.tasks, stream)
        ensure_queries(plan.config.backbone.query_aspects, stream)
        texts += [item.text for item in stream.catalogue.items]
        texts += stream.catalogue.queries if plan.config.backbone.query_aspects else ()
    console.print(f"{len(plan.sources)} streams, {len(plan.adapters)} adapters, {len(plan.seeds)} seeds")
    text_vectors(plan, texts)

"""The entry of `driftline evaluate`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lab.bases.presets import known_base
from lab.evaluate.cells import amount
from lab.evaluate.named_tables import print_location, write_report
from lab.evaluate.options import ComparisonOptions
from lab.evaluate.plan import Plan
from lab.evaluate.pool import ensure_writable, execute
from lab.evaluate.report import EvaluationReport, make_report
from lab.evaluate.tables import markdown, show
from lab.streams import ensure_learnable
from lab.streams.sources import choose
from model.whole_files import write_whole
from streaming.config import Config

SEEDS, QUICK_SEEDS = 5, 2


def run_evaluate(
    config: Config,
    order: ComparisonOptions,
    *,
    adapters: Sequence[str] | None = None,
    cluster: str | None = None,
    base: str | None = None,
    console: Console | None = None,
) -> EvaluationReport:
    """Runs what is missing, writes `report.json`, `report.md`, `report.html` and PNG files, shows the tables.

    `base` names one of `lab.bases.presets`. Called again with the same settings and code, finished runs are taken from
    `order.out`. `cluster` is the address of a Dask scheduler whose workers run it. Raises OutFolderError, StreamError,
    UnknownAdapterError, UnknownBaseError, DataUnavailableError, ClusterUnavailableError or EvaluationFailedError; each
    message names the cure.
    """
    console, begun = console or Console(), time.monotonic()
    ensure_writable(order.out)
    preset = known_base(base, config.backbone) if base is not None else None
    plan = order.plan(
        config, choose(order.streams, quick=order.quick), tuple(adapters) if adapters else None,
        order.seeds_or(SEEDS, quick=QUICK_SEEDS), backbone=preset.backbone if preset else None,
        pretrain=preset.pretrain if preset else None,
    )  # fmt: skip
    warm_up(plan, console)
    report = make_report(plan, execute(plan, console, order.processes, cluster))
    write(report, order.out)
    show(report, console)
    print_location(order.out / "report.html", time.monotonic() - begun, console)
    return report


def write(report: EvaluationReport, out: Path) -> None:
    """Writes all files of a report."""
    from lab.evaluate.page import page
    from lab.evaluate.plots import pictures

    drawn = pictures(report)
    write_report(out, "report", report.to_json(), markdown(report))
    write_whole(out / "report.html", page(report, drawn))
    for name, data in drawn.items():
        write_whole(out / name, data)


def warm_up(plan: Plan, console: Console) -> None:
    """Data and text vectors are fetched once, before the processes would all do it; wrong inputs are refused here."""
    from lab.evaluate.work import text_vectors

    texts: list[str] = []
    for source in plan.sources:
        stream = source.open(plan.seeds[0], plan.cache_dir)
        ensure_learnable(plan.config.backbone, stream)
        texts += [item.text for item in stream.catalogue.items]
        texts += stream.catalogue.queries if plan.config.backbone.query_aspects else ()
    counted = {"stream": plan.sources, "adapter": plan.adapters, "seed": plan.seeds}
    console.print(", ".join(amount(len(part), noun) for noun, part in counted.items()))
    text_vectors(plan, texts)

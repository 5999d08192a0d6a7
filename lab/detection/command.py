"""The entry of `driftline evaluate --detectors`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from lab.detection.pictures import draw_trial
from lab.detection.recordings import pretrain
from lab.detection.rows import DetectorReport, report_of
from lab.detection.scenarios import Scenario, scenarios
from lab.detection.tables import grid_table, markdown, missed, page, tables
from lab.detection.trial import Trial, run_detection_trial
from lab.evaluate.cells import amount
from lab.evaluate.named_tables import print_location, show_tables, write_report
from lab.evaluate.options import ComparisonOptions
from lab.evaluate.plan import Plan
from lab.evaluate.plots import png
from lab.evaluate.pool import ensure_writable, run_tasks, workers
from lab.progress import bars
from lab.streams.sources import Source
from model.drift.config import DriftConfig
from model.whole_files import write_whole
from streaming.config import Config

SEEDS = 5
GRID = (1e4, 1e5, 1e6, 1e7, 1e8)
"""Values of `drift.false_alarm_examples` that are tried."""


def run_detectors(config: Config, order: ComparisonOptions, *, console: Console | None = None) -> list[DetectorReport]:
    """Replays what is missing and writes `detectors.json`, `.md` and `.html` and a PNG per stream.

    With `order.tune`, a report for each of `GRID`, printed and not written. Raises OutFolderError, StreamError,
    DataUnavailableError or EvaluationFailedError; each message names the cure.
    """
    console, begun = console or Console(), time.monotonic()
    ensure_writable(order.out)
    chosen = scenarios(order.streams)
    plan = order.plan(config, _sources(chosen), ("frozen",), order.seeds_or(SEEDS))
    grid = [config.drift.model_copy(update={"false_alarm_examples": patience}) for patience in GRID]
    configs = grid if order.tune else [config.drift]
    trials = execute(plan, chosen, configs, console, order.processes)
    reports = [report_of([results[number] for results in trials]) for number in range(len(configs))]
    if order.tune:
        show_tables([grid_table(list(zip(GRID, reports, strict=True)))], console)
        return reports
    write(reports[0], [results[0] for results in trials], order.out)
    show_tables(tables(reports[0]), console)
    for line in missed(reports[0]):
        console.print(f"[dim]{line}[/]", highlight=False)
    print_location(order.out / "detectors.html", time.monotonic() - begun, console)
    return reports


def _sources(chosen: Sequence[Scenario]) -> list[Source]:
    """Each once: the faults are put into one stream."""
    return list({scenario.source.describe(): scenario.source for scenario in chosen}.values())


def execute(
    plan: Plan,
    chosen: Sequence[Scenario],
    configs: Sequence[DriftConfig],
    console: Console,
    processes: int,
) -> list[list[Trial]]:
    """Trials of every stream and seed by a monitor of each configuration; in the order of streams, then seeds."""
    pairs = sorted(
        ((source, seed) for source in _sources(chosen) for seed in plan.seeds), key=lambda pair: pair[0].name
    )
    tasks = [
        (scenario.source, seed, scenario.name) for seed in plan.seeds for scenario in sorted(chosen, key=_longest_first)
    ]
    with workers(processes, None), bars(console) as progress:
        first = progress.add_task("backbones", total=len(pairs), note="pretraining, unless they are there")
        second = progress.add_task(
            "streams", total=len(tasks), note=f"{amount(len(chosen), 'stream')}, {amount(len(plan.seeds), 'seed')}"
        )
        for _ in run_tasks(plan, pretrain, pairs):
            progress.advance(first)
        trials = []
        for results in run_tasks(plan, partial(run_detection_trial, configs=configs), tasks):
            progress.update(second, advance=1, note=f"{results[0].stream}, seed {results[0].seed}")
            trials.append(results)
    order = [scenario.name for scenario in chosen]
    return sorted(trials, key=lambda results: (order.index(results[0].stream), results[0].seed))


def _longest_first(scenario: Scenario) -> int:
    return 0 if scenario.source.script is None else -scenario.source.script.requests


def write(report: DetectorReport, trials: Sequence[Trial], out: Path) -> None:
    """Writes all files of a report; the pictures show the first seed."""
    drawn = {
        f"detectors-{trial.stream}.png": png(partial(draw_trial, name=trial.stream, drawn=trial.drawn), 11, 6)
        for trial in trials
        if trial.drawn is not None
    }
    write_report(out, "detectors", report.to_json(), markdown(report))
    write_whole(out / "detectors.html", page(report, drawn))
    for name, data in drawn.items():
        write_whole(out / name, data)

"""The entry of `driftline evaluate --new-scene`: the curves of all streams and seeds, as a table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial

from rich.console import Console

from lab.evaluate.cells import amount, interval_cell
from lab.evaluate.named_tables import NamedTable, markdown_page, print_location, show_tables, write_report
from lab.evaluate.options import ComparisonOptions
from lab.evaluate.plan import Plan
from lab.evaluate.pool import ensure_writable
from lab.evaluate.trials import kept_trials, trial_path
from lab.evaluate.work import limit_threads, text_vectors
from lab.fine_tuning.curve import FIRST, CurveRow, curve
from lab.fine_tuning.new_scene import STREAMS, held_out, open_scene
from lab.fine_tuning.origin import ensure_comparable
from lab.intervals import interval
from streaming.config import Config

SEEDS = 3
CURVE = "lab.fine_tuning.curve"
"""The module whose code decides the curves, with all that it imports."""
_UNFIT = {
    "factory": "the layers of a backbone of your own are not known here",
    "tasks": "the streams know of no conversions",
    "query_aspects": "the streams have no queries",
}


def run_new_scene(config: Config, order: ComparisonOptions, *, console: Console | None = None) -> list[CurveRow]:
    """Computes the curves and writes `new-scene.json` and `.md` again after each stream and seed.

    Curves that an earlier call into the same folder has finished are not computed again.
    Raises TransferRefused, OutFolderError or DataUnavailableError; each message names the cure.
    """
    console, begun = console or Console(), time.monotonic()
    ensure_comparable(config.backbone, _UNFIT)
    ensure_writable(order.out)
    limit_threads()
    plan = order.plan(config, [], ("frozen",), order.seeds_or(SEEDS))
    rows: list[CurveRow] = []
    for name in STREAMS:
        for seed in plan.seeds:
            source = held_out(name, quick=order.quick).source
            path = trial_path(plan, source, seed, CURVE, f"new-scene-{name}")
            if path.exists():
                console.print(f"{name}, seed {seed}: kept from an earlier call", highlight=False)
            rows += kept_trials(path, CurveRow, partial(_curve, plan, name, seed, order.quick, console))
            write_report(order.out, "new-scene", [asdict(curve_row) for curve_row in rows], markdown(rows))
    show_tables(tables(rows), console)
    print_location(order.out / "new-scene.md", time.monotonic() - begun, console)
    return rows


def _curve(plan: Plan, name: str, seed: int, quick: bool, console: Console) -> list[CurveRow]:
    """Every method on one stream and seed."""
    rows = []
    for row in curve(plan, open_scene(name, seed, plan.cache_dir, quick=quick), seed, partial(text_vectors, plan)):
        rows.append(row)
        console.print(f"{name}, seed {seed}: {row.method}, {row.cpu_s:.1f} s", highlight=False)
    return rows


def markdown(rows: Sequence[CurveRow]) -> str:
    """The Markdown page with a table per stream."""
    about = (
        f"AUC within requests and log loss over the first {', '.join(map(str, FIRST[:-1]))} and {FIRST[-1]:,} examples "
        "of the scene, test then train. ± is a 95 % interval over the seeds."
    )
    return markdown_page("A new scene's first examples", about, tables(rows))


def tables(rows: Sequence[CurveRow]) -> Iterator[NamedTable]:
    """Title, head and cells of each stream's table."""
    head = ["method", *(f"{measure}, first {n}" for measure in ("AUC in requests", "log loss") for n in FIRST)]
    for stream in dict.fromkeys(row.stream for row in rows):
        of = [row for row in rows if row.stream == stream]
        methods = dict.fromkeys(row.method for row in of)
        body = [_cells([row for row in of if row.method == method]) for method in methods]
        yield f"{stream}, {amount(len({row.seed for row in of}), 'seed')}", [*head, "CPU s", "trained"], body


def _cells(rows: Sequence[CurveRow]) -> list[str]:
    columns = [[row.request_auc[n] for row in rows] for n in range(len(FIRST))]
    columns += [[row.log_loss[n] for row in rows] for n in range(len(FIRST))]
    cost = sum(row.cpu_s for row in rows) / len(rows)
    figures = [interval_cell(interval(column)) for column in columns]
    return [rows[0].method, *figures, f"{cost:.1f}", f"{max(row.trained for row in rows):,}"]

"""The entry of `driftline evaluate --new-scene`: the curves of all streams and seeds, as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console

from lab.evaluate.compare import interval
from lab.evaluate.plan import make_plan
from lab.evaluate.pool import ensure_writable
from lab.evaluate.work import limit_threads, text_vectors
from lab.transfer.curve import FIRST, CurveRow, curve
from lab.transfer.new_scene import STREAMS, open_scene
from lab.transfer.origin import ensure_comparable
from model.whole_files import write_whole
from streaming.config import Config

SEEDS = 3
_UNFIT = {
    "factory": "the layers of a backbone of your own are not known here",
    "tasks": "the streams know of no conversions",
    "query_aspects": "the streams have no queries",
}


def run_new_scene(
    config: Config, *, seeds: int | None, quick: bool, out: Path, console: Console | None = None
) -> list[CurveRow]:
    """Makes the curves and writes `new-scene.json` and `.md` to `out`.

    Raises TransferRefused, OutFolderError or DataUnavailableError; each message names the cure.
    """
    console = console or Console()
    ensure_comparable(config.backbone, _UNFIT)
    ensure_writable(out)
    limit_threads()
    plan = make_plan([], ("frozen",), 1, out, config.cache_dir, quick=quick, kernel=config.kernel,
                     learner=config.learner, live=config.live, backbone=config.backbone)  # fmt: skip
    rows: list[CurveRow] = []
    for name in STREAMS:
        for seed in range(seeds or SEEDS):
            stream = open_scene(name, seed, plan.cache_dir, quick=quick)
            for row in curve(plan, stream, seed, partial(text_vectors, plan)):
                rows.append(row)
                console.print(f"{name}, seed {seed}: {row.way}, {row.cpu_s:.1f} s", highlight=False)
            write_whole(out / "new-scene.json", json.dumps([asdict(one) for one in rows], indent=1) + "\n")
            write_whole(out / "new-scene.md", markdown(rows))
    console.print(markdown(rows), highlight=False, markup=False, soft_wrap=True)
    return rows


def markdown(rows: Sequence[CurveRow]) -> str:
    """A table per stream; ± is a 95 % interval over the seeds."""
    lines: list[str] = []
    for stream in dict.fromkeys(row.stream for row in rows):
        of = [row for row in rows if row.stream == stream]
        heads = [f"{what}, first {n}" for what in ("AUC in requests", "log loss") for n in FIRST]
        lines += [f"## {stream}, {len({row.seed for row in of})} seeds", ""]
        lines += [f"| way | {' | '.join(heads)} | CPU s | trained |", f"|---|{'---:|' * (len(heads) + 2)}"]
        for way in dict.fromkeys(row.way for row in of):
            lines.append(_line([row for row in of if row.way == way]))
        lines.append("")
    return "\n".join(lines)


def _line(rows: Sequence[CurveRow]) -> str:
    columns = [[row.request_auc[n] for row in rows] for n in range(len(FIRST))]
    columns += [[row.log_loss[n] for row in rows] for n in range(len(FIRST))]
    cells = [_with_spread(column) for column in columns]
    cost = sum(row.cpu_s for row in rows) / len(rows)
    trained = max(row.trained for row in rows)
    return f"| {rows[0].way} | {' | '.join(cells)} | {cost:.1f} | {trained:,} |"


def _with_spread(values: Sequence[float]) -> str:
    found = interval(values)
    return f"{found.mean:.4f}" + ("" if math.isnan(found.half_width) else f" ±{found.half_width:.4f}")

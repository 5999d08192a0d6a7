"""Finds each adapter's learning rate on streams of seeds that no evaluation uses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

from lab.evaluate.plan import ALL_ADAPTERS, make_plan
from lab.evaluate.pool import ensure_writable
from lab.evaluate.prequential import run
from lab.evaluate.work import adapter_context, limit_threads, load_pretrained, load_stream, prepare_stream
from lab.progress import bars
from lab.streams.sources import choose
from model.evaluation import auc
from streaming.config import Config

TUNING_SEEDS = (1_000, 1_001)
STREAMS = ("abrupt", "recurring", "movielens-100k")
Gains = dict[str, dict[float, dict[tuple[str, int], float]]]
"""AUC above frozen by adapter, rate, and stream with seed."""


def run_tune(config: Config, out: Path, adapters: Sequence[str] | None = None) -> None:
    """Tries every rate and shows the table with the best marked. Raises UnknownAdapterError."""
    console = Console()
    show(tune(config, out, adapters, console=console), console)


def tune(
    config: Config,
    out: Path,
    adapters: Sequence[str] | None = None,
    streams: Sequence[str] = STREAMS,
    *,
    console: Console | None = None,
) -> Gains:
    """Runs every rate an adapter lists on each stream; the best sum of gains is the one to write into the registry."""
    limit_threads()
    ensure_writable(out)
    sources = [source for source in choose("standard", None, None, None, quick=False) if source.name in streams]
    plan = make_plan(
        sources, tuple(adapters or ("all",)), 1, out, config.cache_dir, quick=False,
        kernel=config.kernel, learner=config.learner, live=config.live, backbone=config.backbone,
    )  # fmt: skip
    names = [name for name in plan.adapters if ALL_ADAPTERS[name].rates]
    tried = [(name, rate) for name in names for rate in ALL_ADAPTERS[name].rates]
    gains: Gains = {name: {rate: {} for rate in ALL_ADAPTERS[name].rates} for name in names}
    with bars(console or Console(quiet=True)) as progress:
        task = progress.add_task("runs", total=len(tried) * len(sources) * len(TUNING_SEEDS), note="")
        for source, seed in ((source, seed) for source in sources for seed in TUNING_SEEDS):
            progress.update(task, note=f"{source.name}, seed {seed}: pretraining")
            prepare_stream(plan, source, seed)
            stream, data = source.open(seed, plan.cache_dir), load_stream(plan, source, seed)
            context = adapter_context(plan, stream, load_pretrained(plan, stream, seed), seed)
            frozen = auc(data.truth, data.frozen_logit)
            for name, rate in tried:
                progress.update(task, note=f"{source.name}, seed {seed}: {name} at {rate:g}")
                adapter = ALL_ADAPTERS[name].build(context, rate)
                try:
                    gain = auc(data.truth, run(adapter, data, plan.config.batch_examples).logit) - frozen
                except FloatingPointError:
                    gain = -math.inf  # this rate is too high, and the table says so
                gains[name][rate][source.name, seed] = gain
                progress.advance(task)
    return gains


def best(gains: Gains) -> dict[str, float]:
    """The rate of each adapter with the largest sum of gains."""
    return {name: max(by_rate, key=lambda rate: sum(by_rate[rate].values())) for name, by_rate in gains.items()}


def show(gains: Gains, console: Console) -> None:
    """The table behind the choice: means over the seeds."""
    chosen = best(gains)
    streams = list(dict.fromkeys(stream for stream, _ in next(iter(next(iter(gains.values())).values()))))
    table = Table("adapter", "rate", *streams, "mean")
    for name, by_rate in gains.items():
        for rate, by_stream in by_rate.items():
            mark = "*" if chosen[name] == rate else ""
            means = [fmean([gain for (stream, _), gain in by_stream.items() if stream == one]) for one in streams]
            table.add_row(name, f"{rate:g}{mark}", *(f"{mean:+.4f}" for mean in (*means, fmean(by_stream.values()))))
    console.print(table)

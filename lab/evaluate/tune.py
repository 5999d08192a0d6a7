"""Finds each adapter's learning rate on streams of seeds that no evaluation uses, by the order of each request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from lab.adapters import AdapterContext
from lab.evaluate.options import TUNING_SEEDS, ComparisonOptions
from lab.evaluate.plan import ALL_ADAPTERS, Plan
from lab.evaluate.pool import ensure_writable
from lab.evaluate.prepare import PreparedStream
from lab.evaluate.prequential import run
from lab.evaluate.work import adapter_context, limit_threads, load_pretrained, load_stream, prepare_stream
from lab.progress import bars
from lab.streams.sources import NamedStreams, Source, choose
from model.evaluation import auc, grouped_auc
from streaming.config import Config

STREAMS = ("abrupt", "by-domain", "movielens-100k")


class Gain(NamedTuple):
    """AUC above frozen; minus infinity if the rate was too high for the logits to stay finite."""

    within: float
    """Within requests: what the choice is made by."""
    overall: float


Gains = dict[str, dict[float, dict[tuple[str, int], Gain]]]
"""Gains by adapter, rate, and stream with seed."""


def tuning_sources(named: NamedStreams) -> list[Source]:
    """The streams that are named, `STREAMS` if none is. Raises StreamError."""
    if named:
        return choose(named, quick=False)
    return [source for source in choose(NamedStreams("standard"), quick=False) if source.name in STREAMS]


def run_tune(
    config: Config, order: ComparisonOptions, *, adapters: Sequence[str] | None = None, console: Console | None = None
) -> None:
    """Tries every rate and shows the table with the best marked.

    Raises OutFolderError, StreamError, UnknownAdapterError or DataUnavailableError; each message names the cure.
    """
    console = console or Console()
    ensure_writable(order.out)
    plan = order.plan(config, tuning_sources(order.streams), tuple(adapters or ("all",)), TUNING_SEEDS)
    show(tune(plan, console), console)


def tune(plan: Plan, console: Console) -> Gains:
    """Runs every rate an adapter lists on each stream; the best sum of gains is the one to write into the registry."""
    limit_threads()
    names = [name for name in plan.adapters if ALL_ADAPTERS[name].rates]
    tried = [(name, rate) for name in names for rate in ALL_ADAPTERS[name].rates]
    gains: Gains = {name: {rate: {} for rate in ALL_ADAPTERS[name].rates} for name in names}
    with bars(console) as progress:
        task = progress.add_task("runs", total=len(tried) * len(plan.sources) * len(plan.seeds), note="")
        for source, seed in ((source, seed) for source in plan.sources for seed in plan.seeds):
            progress.update(task, note=f"{source.name}, seed {seed}: pretraining")
            context, data = _open(plan, source, seed)
            for name, rate in tried:
                progress.update(task, note=f"{source.name}, seed {seed}: {name} at {rate:g}")
                gains[name][rate][source.name, seed] = _gain(name, rate, context, data)
                progress.advance(task)
    return gains


def _open(plan: Plan, source: Source, seed: int) -> tuple[AdapterContext, PreparedStream]:
    prepare_stream(plan, source, seed)
    stream = source.open(seed, plan.cache_dir)
    return adapter_context(plan, stream, load_pretrained(plan, stream, seed), seed), load_stream(plan, source, seed)


def _gain(name: str, rate: float, context: AdapterContext, data: PreparedStream) -> Gain:
    adapter, frozen = ALL_ADAPTERS[name].build(context, rate), data.frozen_logit
    try:
        logit = run(adapter, data, context.training.batch_examples).logit
    except FloatingPointError:
        return Gain(-math.inf, -math.inf)  # the rate is too high, which the table shows
    within = grouped_auc(data.truth, logit, data.request) - grouped_auc(data.truth, frozen, data.request)
    return Gain(within, auc(data.truth, logit) - auc(data.truth, frozen))


def best(gains: Gains) -> dict[str, float]:
    """The rate of each adapter with the largest sum of gains within requests; by overall AUC where those are equal."""
    return {
        name: max(by_rate, key=lambda rate: tuple(map(sum, zip(*by_rate[rate].values(), strict=True))))
        for name, by_rate in gains.items()
    }


def show(gains: Gains, console: Console) -> None:
    """Prints the table behind the choice: means over the seeds, within requests / overall."""
    chosen = best(gains)
    streams = list(dict.fromkeys(stream for stream, _ in next(iter(next(iter(gains.values())).values()))))
    table = Table("adapter", "rate", *streams, "mean", title="AUC above frozen: within requests / overall")
    for name, by_rate in gains.items():
        for rate, by_stream in by_rate.items():
            mark = "*" if chosen[name] == rate else ""
            means = [
                _mean([gain for (stream, _), gain in by_stream.items() if stream == stream_name])
                for stream_name in streams
            ]
            table.add_row(name, f"{rate:g}{mark}", *means, _mean(list(by_stream.values())))
    console.print(table)


def _mean(gains: list[Gain]) -> str:
    return f"{fmean(gain.within for gain in gains):+.4f} / {fmean(gain.overall for gain in gains):+.4f}"

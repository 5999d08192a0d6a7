"""Effect of wrong labels on the live arm, with and without the gate, on scripted streams (docs/gate.md).

A fifth of each live half is poisoned, from a request that the seed draws. The excess is the live arm's log loss over
the frozen arm's, minus one, on what users really did; if one user sends nine tenths of the traffic, on the other users.
Wrong conversions are measured separately, on P(conversion | click) among the clicked items (`poison_conversions`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.excess import WINDOW, percent, worst_excess
from benchmarks.poison_conversions import SEEDS as CONVERTING_SEEDS
from benchmarks.poison_conversions import conversion_results, conversion_table
from benchmarks.poisoned import POISONS, Poison, poisoned
from lab.evaluate.plan import make_plan
from lab.evaluate.work import limit_threads
from lab.replay.half import LiveHalf, prepare_half
from lab.replay.replay import ReplayedExamples, replay
from lab.streams.sources import NamedStreams, choose
from model.evaluation import auc, grouped_auc
from model.gate.config import GateConfig
from model.gate.harm import log_losses
from streaming.config import Config

STREAMS, SEEDS = ("no-drift", "abrupt", "newcomers"), (0,)


@dataclass(frozen=True)
class Measured:
    """Results of one replayed stream: excess loss of the live arm, AUC, and examples set aside."""

    worst: float
    """Largest excess over any `WINDOW` examples in a row."""
    after: float
    """Excess over the `WINDOW` examples after the poison."""
    auc: float
    """AUC above the frozen arm's."""
    within: float
    """The same difference within requests."""
    set_aside: int


def measure(examples: ReplayedExamples, end: int) -> Measured:
    """Measures of a replay whose poison ends before request `end` of the live half."""
    live, frozen = (log_losses(logit, examples.truth) for logit in (examples.live, examples.frozen))
    behind = np.flatnonzero(examples.place >= end)[:WINDOW]
    arms, of = (examples.live, examples.frozen), examples.truth
    whole, within = [auc(of, arm) for arm in arms], [grouped_auc(of, arm, examples.request) for arm in arms]
    return Measured(
        worst=worst_excess(live, frozen),
        after=float(live[behind].sum() / frozen[behind].sum() - 1.0),
        auc=whole[0] - whole[1],
        within=within[0] - within[1],
        set_aside=examples.set_aside,
    )


def compared(half: LiveHalf, poison: Poison, seed: int) -> tuple[Measured, Measured]:
    """Results without the gate and with it."""
    replayed = poisoned(half, poison, seed)
    without, guarded = (measure(replay(half, replayed, gate), replayed.span[1]) for gate in (None, GateConfig()))
    return without, guarded


Results = dict[tuple[str, Poison], list[tuple[Measured, Measured]]]


def harm_table(results: Results, seeds: Sequence[int]) -> Table:
    """Excess of every stream and poison, a figure per seed."""
    table = Table(
        "stream", "poison", "worst without gate", "worst with gate", "after, without", "after, with", "set aside",
        title=f"Excess of live over frozen log loss, %; a figure per seed of {', '.join(map(str, seeds))}",
    )  # fmt: skip
    for (stream, poison), pairs in results.items():
        without, guarded = zip(*pairs, strict=True)
        cells = [
            *(percent(result.worst for result in arm) for arm in (without, guarded)),
            *(percent(result.after for result in arm) for arm in (without, guarded)),
        ]
        table.add_row(stream, poison, *cells, ", ".join(f"{result.set_aside:,}" for result in guarded))
    return table


def cost_table(results: Results) -> Table:
    """Table of the gate's cost on streams without poison."""
    table = Table(
        "stream", "AUC without gate", "AUC with gate", "within requests without", "within requests with",
        title="Above frozen where nothing is wrong, mean over the seeds",
    )  # fmt: skip
    for (stream, poison), pairs in results.items():
        if poison == "none":
            arms = list(zip(*pairs, strict=True))
            means = [np.mean([result.auc for result in arm]) for arm in arms]
            means += [np.mean([result.within for result in arm]) for arm in arms]
            table.add_row(stream, *(f"{mean:+.4f}" for mean in means))
    return table


def main() -> int:
    """Prints the tables of harm, of the gate's cost without poison, and of wrong conversions."""
    limit_threads()
    cache = Config().cache_dir
    sources = [source for source in choose(NamedStreams("scripted"), quick=False) if source.name in STREAMS]
    results: Results = {(source.name, poison): [] for source in sources for poison in POISONS}
    console = Console()
    with tempfile.TemporaryDirectory(prefix="driftline-poison-") as folder:
        plan = make_plan(sources, ("frozen",), len(SEEDS), Path(folder), cache, quick=False)
        for seed in SEEDS:
            for source in plan.sources:
                half = prepare_half(plan, source, seed)
                for poison in POISONS:
                    results[source.name, poison].append(compared(half, poison, seed))
                console.print(f"[dim]{source.name}, seed {seed}: replayed[/]")
        converting = conversion_results(Path(folder), console)
    console.print(harm_table(results, SEEDS))
    console.print(cost_table(results))
    console.print(conversion_table(converting, CONVERTING_SEEDS))
    return 0

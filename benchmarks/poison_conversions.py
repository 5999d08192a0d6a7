"""Effect of wrong conversions on the live P(conversion | click), with the gate and without it (docs/gate.md).

A fifth of each live half is poisoned, as for clicks (`benchmarks.poison`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.excess import percent, worst_excess
from benchmarks.poisoned import span_of
from benchmarks.poisoned_conversions import (
    CONVERSION_POISONS,
    ConversionPoison,
    ConversionScores,
    ConvertingHalf,
    play_conversions,
)
from lab.evaluate.plan import make_plan
from lab.streams.sources import NamedStreams, choose
from model.config import BackboneConfig
from model.gate.config import GateConfig
from model.gate.harm import log_losses
from streaming.config import Config

STREAMS, SEEDS = ("shop", "movielens-favourites"), (0, 1, 2)
CLICKS = 500
"""Number of clicks in a row over which the worst excess is taken."""


@dataclass(frozen=True)
class MeasuredConversions:
    """Results of one play of the conversion task: excess loss of the live arm among clicks, and clicks set aside."""

    worst: float
    """Largest excess over any `CLICKS` clicks in a row."""
    inside: float
    """Excess over the clicks of the poisoned requests and the `CLICKS` that follow."""
    all: float
    """Excess over all clicks."""
    set_aside: int


def measure_conversions(scores: ConversionScores, span: tuple[int, int]) -> MeasuredConversions:
    """Measures of a play whose conversions were wrong in the requests of `span`."""
    live, frozen = (log_losses(logit, scores.truth) for logit in (scores.live, scores.frozen))
    begin, end = np.searchsorted(scores.request, span)
    affected = slice(int(begin), int(end) + CLICKS)
    return MeasuredConversions(
        worst=worst_excess(live, frozen, CLICKS),
        inside=float(live[affected].sum() / frozen[affected].sum() - 1.0),
        all=float(live.sum() / frozen.sum() - 1.0),
        set_aside=scores.set_aside,
    )


ConversionResults = dict[tuple[str, ConversionPoison], list[tuple[MeasuredConversions, MeasuredConversions]]]


def conversion_table(results: ConversionResults, seeds: Sequence[int]) -> Table:
    """Excess of P(conversion | click) on every stream with every poison, a figure per seed."""
    table = Table(
        "stream", "poison", "worst without gate", "worst with gate", "poisoned and after, without",
        "poisoned and after, with", "all, without", "all, with", "clicks set aside",
        title=f"Excess of live over frozen log loss of conversions, %; a figure per seed of "
        f"{', '.join(map(str, seeds))}",
    )  # fmt: skip
    for (stream, poison), pairs in results.items():
        arms = list(zip(*pairs, strict=True))
        cells = [
            percent(getattr(result, name) for result in arm) for name in ("worst", "inside", "all") for arm in arms
        ]
        table.add_row(stream, poison, *cells, ", ".join(f"{result.set_aside:,}" for result in arms[1]))
    return table


def conversion_results(folder: Path, console: Console) -> ConversionResults:
    """Plays the streams with conversions, with every poison, without the gate and with it."""
    backbone = BackboneConfig(tasks="ctr_ctcvr")
    sources = [
        *choose(NamedStreams(script=Path(STREAMS[0])), quick=False),
        *choose(NamedStreams(mapping=STREAMS[1]), quick=False),
    ]
    plan = make_plan(sources, ("frozen",), 1, folder, Config().cache_dir, quick=False, backbone=backbone)
    results: ConversionResults = {(source.name, poison): [] for source in sources for poison in CONVERSION_POISONS}
    for seed in SEEDS:
        for source in plan.sources:
            half = ConvertingHalf.of(plan, source, seed)
            span = span_of(half.requests, seed)
            for poison in CONVERSION_POISONS:
                without, guarded = (
                    measure_conversions(play_conversions(half, poison, span, gate), span)
                    for gate in (None, GateConfig())
                )
                results[source.name, poison].append((without, guarded))
            console.print(f"[dim]{source.name}, seed {seed}: conversions played[/]")
    return results

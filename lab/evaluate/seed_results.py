"""The runs of one stream and seed, measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.evaluate.bootstrap import draw_users, drawn_figures
from lab.evaluate.conversions import ConversionMeasures, measure_conversions
from lab.evaluate.information import SeedInformation, read_information
from lab.evaluate.measures import Measures, measure
from lab.evaluate.plan import KERNEL, Plan
from lab.evaluate.pretrained import pretraining_examples
from lab.evaluate.slices import PretrainingCounts, SliceMeasures, measure_slices
from lab.evaluate.verdicts import stream_verdicts
from lab.evaluate.work import load_run, load_stream
from lab.streams.sources import Source
from lab.verdict_bands import Band
from model.evaluation import auc, grouped_auc, mixed_groups


@dataclass(frozen=True)
class RunCost:
    """Time and memory of one adapter's run."""

    examples: int
    parameters: int
    cpu_s: float
    state_bytes: int
    peak_bytes: int


@dataclass(frozen=True)
class SeedResult:
    """Measures and costs of all adapters on one stream and seed."""

    stream: str
    seed: int
    measures: dict[str, Measures]
    """Measures by adapter."""
    costs: dict[str, RunCost]
    """Costs by adapter."""
    slices: dict[str, dict[str, SliceMeasures]]
    """Slices by adapter and name."""
    examples: int
    lists: int
    click_rate: float
    oracle_auc: float
    oracle_request_auc: float
    spans: tuple[tuple[str, float, float], ...]
    """As in `StreamReport`."""
    conversions: dict[str, ConversionMeasures] = field(default_factory=dict)
    """Conversion measures by adapter; empty for a stream without conversions."""
    information: SeedInformation | None = None
    """The kernel's information; None if it did not run or measures no information."""
    verdicts: tuple[Band, ...] = ()
    """A drift monitor's verdicts with frozen and kernel as arms; for the first seed only, if the kernel ran."""
    drawn: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    """By adapter, its figures for resampled users (`lab.evaluate.bootstrap`); empty for a script, whose seeds draw
    other users."""


def measure_seed(plan: Plan, source: Source, seed: int) -> SeedResult:
    """Reads the runs of one stream and seed."""
    stream, data = source.open(seed, plan.cache_dir), load_stream(plan, source, seed)
    seen = PretrainingCounts.of(pretraining_examples(stream), data.item, data.user, data.query)
    measures, costs, slices, conversions, drawn = {}, {}, {}, {}, {}
    users = None if source.seeded else draw_users(data.user)
    for name in plan.adapters:
        done = load_run(plan, source, seed, name)
        outcome = done.outcome
        if (converted := measure_conversions(data, outcome.logit)) is not None:
            conversions[name] = converted
        measures[name] = measure(data, outcome.logit, stream.drift_spans, stream.catalogue.space)
        slices[name] = measure_slices(data.truth, outcome.logit, data.request, seen)
        if users is not None:
            drawn[name] = drawn_figures(data, outcome.logit, users)
        costs[name] = RunCost(len(data), done.parameters, outcome.cpu_s, done.state_bytes, outcome.peak_bytes)
    spans = tuple(
        (span.name, _share(data.time, span.start), _share(data.time, span.end)) for span in stream.drift_spans
    )
    scripted = bool(np.isfinite(data.probability).all())
    run = plan.folder(source, seed) / f"{KERNEL}.npz"
    verdicts: tuple[Band, ...] = ()
    if KERNEL in plan.adapters and seed == plan.seeds[0]:
        verdicts = stream_verdicts(data, load_run(plan, source, seed, KERNEL).outcome.logit, stream.catalogue.space)
    return SeedResult(
        stream=source.name,
        seed=seed,
        measures=measures,
        costs=costs,
        slices=slices,
        examples=len(data),
        lists=mixed_groups(data.truth, data.request),
        click_rate=float(data.truth.mean()),
        oracle_auc=auc(data.truth, data.probability) if scripted else math.nan,
        oracle_request_auc=grouped_auc(data.truth, data.probability, data.request) if scripted else math.nan,
        spans=spans,
        conversions=conversions,
        information=read_information(run, seed) if KERNEL in plan.adapters else None,
        verdicts=verdicts,
        drawn=drawn,
    )


def _share(time: np.ndarray[Any, np.dtype[np.float64]], at: float) -> float:
    return float(np.searchsorted(time, at)) / len(time)

"""One stream and seed with a backbone that reads queries in one of several ways, or none; frozen, and with the kernel.

The last one predicts relevance too, where the stream has judgements.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lab.evaluate.plan import ALL_ADAPTERS, KERNEL, Plan
from lab.evaluate.prepare import PreparedStream, prepare
from lab.evaluate.prequential import run
from lab.evaluate.slices import REQUEST_SLICES, PretrainingCounts, SliceMeasures, measure_slice
from lab.evaluate.trials import kept_trial, trial_path
from lab.evaluate.work import adapter_context, ensure_pretrained, limit_threads, load_pretrained
from lab.queries.relevance import RelevanceMeasures, measure_relevance
from lab.streams import Stream
from lab.streams.sources import Source
from model.config import BackboneConfig, QueryAspect
from model.evaluation import sigmoid

NONE, BOTH, JUDGED = "none", "both", "both, relevance"
BY: dict[str, tuple[QueryAspect, ...]] = {
    NONE: (), "text": ("text",), "words": ("words",), BOTH: ("text", "words"), JUDGED: ("text", "words"),
}  # fmt: skip
"""Ways to read queries, as values of `backbone.query_aspects`."""
RELEVANCE_WEIGHT = 1.0
"""`backbone.relevance_weight` of `JUDGED` where the configuration sets none."""
FROZEN, ORACLE = "frozen", "oracle"
ALL = "all requests"
SLICES = (ALL, *REQUEST_SLICES)
Arms = dict[str, dict[str, SliceMeasures]]


@dataclass(frozen=True)
class QueryTrial:
    """Figures of both arms on one stream and seed, for one query encoder."""

    stream: str
    seed: int
    by: str
    """A name in `BY`."""
    arms: Arms
    """`FROZEN`, `KERNEL` and, if a script has true probabilities, `ORACLE`; by the names in `SLICES`."""
    relevance: dict[str, RelevanceMeasures] = field(default_factory=dict)
    """How relevance is ordered, by the names in `lab.queries.relevance.METHODS`; empty for all but `JUDGED`."""


def read_by(backbone: BackboneConfig, by: str) -> BackboneConfig:
    """The same backbone with queries known by `by`. Raises ValueError if it cannot read queries."""
    weight = (backbone.relevance_weight or RELEVANCE_WEIGHT) if by == JUDGED else 0.0
    return backbone.changed(query_aspects=BY[by], relevance_weight=weight)


def ways_to_read(stream: Stream) -> list[str]:
    """The names in `BY` that a stream can be tried with."""
    return [by for by in BY if by != JUDGED or stream.judges]


def run_query_trial(plan: Plan, source: Source, seed: int, by: str) -> QueryTrial:
    """Pretrains and plays one variant, or reads it from the plan's folder."""
    limit_threads()
    plan = replace(plan, config=replace(plan.config, backbone=read_by(plan.config.backbone, by)))
    path = trial_path(plan, source, seed, __name__, "queries")
    return kept_trial(path, QueryTrial, lambda: _tried(plan, source, seed, by))


def _tried(plan: Plan, source: Source, seed: int, by: str) -> QueryTrial:
    stream = source.open(seed, plan.cache_dir)
    ensure_pretrained(plan, stream, seed)
    pretrained = load_pretrained(plan, stream, seed)
    data = prepare(stream, pretrained, plan.config)
    kernel = ALL_ADAPTERS[KERNEL]
    adapter = kernel.build(adapter_context(plan, stream, pretrained, seed), kernel.rate)
    outcome = run(adapter, data, plan.config.training.batch_examples)
    logits = {FROZEN: data.frozen_logit, KERNEL: outcome.logit, **dict(_oracle(data))}
    seen = PretrainingCounts.of(pretrained.log.examples, data.item, data.user, data.query)
    arms = {arm: _measured(data, seen, logit) for arm, logit in logits.items()}
    relevance = measure_relevance(data, pretrained.profiles, stream.catalogue) if by == JUDGED else {}
    return QueryTrial(source.name, seed, by, arms, relevance)


def _oracle(data: PreparedStream) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The true logits, if a script has them."""
    if np.isfinite(data.probability).all():
        p = data.probability.astype(np.float64).clip(1e-7, 1 - 1e-7)
        yield ORACLE, np.log(p / (1 - p)).astype(np.float32)


def _measured(data: PreparedStream, seen: PretrainingCounts, logit: NDArray[np.float32]) -> dict[str, SliceMeasures]:
    assert np.isfinite(sigmoid(logit)).all()
    masks = {ALL: np.ones(len(data), dtype=np.bool_), **seen.masks()}
    return {name: measure_slice(data.truth[masks[name]], logit[masks[name]], data.request[masks[name]]) for name in
            SLICES}  # fmt: skip

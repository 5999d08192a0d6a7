"""Ways to predict conversions on one stream and seed, test then train: items are scored before their labels are
known."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from features.live.features import LiveFeatures
from lab.conversion_start import conversion_start
from lab.conversions.known_conversions import KnownConversions, conversion_features
from lab.evaluate.plan import KERNEL, Plan
from lab.evaluate.prepare import PreparedStream
from lab.evaluate.prequential import stream_batch
from lab.evaluate.pretrained import Pretrained
from lab.evaluate.trials import kept_trial, trial_path
from lab.evaluate.work import (
    limit_threads,
    load_pretrained,
    load_run,
    load_stream,
    prepare_stream,
    run_adapter,
)
from lab.streams import Chunk, Stream
from lab.streams.sources import Source
from model.evaluation import auc, grouped_auc, log_loss, mixed_groups, sigmoid
from model.kernel.batch import MicroBatch
from model.kernel.learner import Learner
from model.kernel.start import KernelStart

FROZEN, COUNTERS, POSTERIOR = "frozen", "counters", "kernel"
METHODS = (FROZEN, COUNTERS, POSTERIOR)
"""Sources of the CVR: the frozen backbone, counters of conversions alone, and the backbone with a kernel on top."""


@dataclass(frozen=True)
class CvrFigures:
    """Figures of one method; CTCVR is its CVR times the kernel's click probability, unless stated otherwise."""

    request_auc: float
    """CTCVR-AUC within each request that holds a conversion and something else, weighted by its items."""
    auc: float
    """CTCVR-AUC over everything."""
    log_loss: float
    """Of CVR, on the clicked items."""
    cvr_auc: float
    """AUC of CVR, on the clicked items."""
    request_auc_frozen: float
    """`request_auc` with the frozen click probability; `auc_frozen` likewise."""
    auc_frozen: float
    cpu_s: float
    """Processor seconds of scoring and learning, those of the live features not counted."""


@dataclass(frozen=True)
class ConversionTrial:
    """Figures of every method on one stream and seed."""

    stream: str
    seed: int
    clicks: int
    conversions: int
    lists: int
    """Requests that hold a conversion and something else."""
    figures: dict[str, CvrFigures]
    """By method."""


def run_conversion_trial(plan: Plan, source: Source, seed: int) -> ConversionTrial:
    """Runs the trial, or reads it from the plan's folder."""
    limit_threads()
    path = trial_path(plan, source, seed, __name__, "conversions")
    return kept_trial(path, ConversionTrial, lambda: _tried(plan, source, seed))


def _tried(plan: Plan, source: Source, seed: int) -> ConversionTrial:
    prepare_stream(plan, source, seed)
    run_adapter(plan, source, seed, KERNEL)
    stream = source.open(seed, plan.cache_dir)
    pretrained, data = load_pretrained(plan, stream, seed), load_stream(plan, source, seed)
    assert data.conversion is not None and data.cvr_logit is not None
    chunk = Chunk.concat(list(stream.chunks("live")))
    known = KnownConversions.of(chunk, plan.config)
    features = conversion_features(stream, pretrained, known, data.cvr_logit, plan.config)
    view = replace(data, live=features, frozen_logit=data.cvr_logit, label=known.converted.astype(np.float32))
    clicks = load_run(plan, source, seed, KERNEL).outcome.logit
    figures = {}
    methods: dict[str, Callable[[], NDArray[np.float32]]] = {
        FROZEN: lambda: view.frozen_logit,
        COUNTERS: lambda: _by_counters(view, pretrained),
        POSTERIOR: lambda: _by_kernel(view, known, conversion_kernel_start(plan, pretrained), plan, stream),
    }
    for method, made in methods.items():
        begun = time.process_time()
        logit = made()
        figures[method] = _measured(data, clicks, logit, time.process_time() - begun)
    return ConversionTrial(
        stream=source.name,
        seed=seed,
        clicks=int(data.truth.sum()),
        conversions=int(data.conversion.sum()),
        lists=mixed_groups(data.conversion, data.request),
        figures=figures,
    )


def conversion_kernel_start(plan: Plan, pretrained: Pretrained) -> KernelStart:
    """The start of a kernel of conversions, as in production."""
    live = LiveFeatures(pretrained.layout, plan.config.live)
    return conversion_start(pretrained.log, live, (pretrained.backbone, pretrained.profiles), plan.kernel)


def _by_counters(view: PreparedStream, pretrained: Pretrained) -> NDArray[np.float32]:
    """Log-odds of all conversions by clicks, and the deviations of user, item and facets added, as `counters` does."""
    layout = pretrained.layout
    facets = [f"{facet}_rate" for facet, _ in layout.crossing.facets]
    columns = [layout.names.index(name) for name in ("rate", "user_rate", "item_rate", *facets)]
    logit: NDArray[np.float32] = view.live[:, columns].sum(axis=1, dtype=np.float32)
    return logit


@torch.inference_mode()
def _by_kernel(
    view: PreparedStream, conversions: KnownConversions, start: KernelStart, plan: Plan, stream: Stream
) -> NDArray[np.float32]:
    """A learner of clicks on conversions: it learns clicked examples when their window of conversions has closed."""
    learner = Learner(start, plan.learner, fingerprint="", domain_sizes=stream.catalogue.space.sizes)
    served = np.zeros(len(view), dtype=np.float32)
    edges = np.searchsorted(view.batch, np.arange(view.batches + 1), side="left")
    order, closed_at = conversions.closing()
    known = np.searchsorted(closed_at, np.arange(view.batches), side="right")
    size, taken = plan.config.training.batch_examples, 0

    def examples(part: slice | NDArray[np.int64]) -> MicroBatch:
        return stream_batch(view, part, served=served).micro

    for batch in range(view.batches):
        part = slice(int(edges[batch]), int(edges[batch + 1]))
        served[part] = learner.score(examples(part)).numpy()
        while known[batch] - taken >= size:
            learner.learn(examples(order[taken : taken + size]))
            taken += size
    return served


def _measured(data: PreparedStream, clicks: NDArray[np.float32], cvr: NDArray[np.float32], cpu_s: float) -> CvrFigures:
    assert data.conversion is not None
    label, clicked, probability = data.conversion, data.truth > 0, sigmoid(cvr)
    adapted, frozen = sigmoid(clicks) * probability, sigmoid(data.frozen_logit) * probability
    return CvrFigures(
        request_auc=grouped_auc(label, adapted, data.request),
        auc=auc(label, adapted),
        log_loss=log_loss(label[clicked], probability[clicked]),
        cvr_auc=auc(label[clicked], cvr[clicked]),
        request_auc_frozen=grouped_auc(label, frozen, data.request),
        auc_frozen=auc(label, frozen),
        cpu_s=cpu_s,
    )

"""The start of kernels and live features, computed from the pretraining log.

The log is read once in time order by the code of the live stream: each batch is scored before it is counted. The
counters of the whole log are the first live rows. On its newest part, where the frozen logits come from a model that
was not trained on it, the kernel learns its first weights (docs/decisions/0085).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from features.live.features import LiveFeatures, RequestItems
from features.live.outcome import RequestOutcome
from lab.represented import RepresentedPairs, represent_pairs
from model.backbone.dataset import ProfileTable
from model.backbone.examples import Examples
from model.backbone.interface import FrozenBackbone
from model.backbone.past import past_events
from model.config import HistorySpec, KernelConfig
from model.drift.reference import Reference
from model.encoding.domain import Domain, DomainSpace
from model.encoding.features import FeatureEncoder
from model.encoding.item_values import ItemValues, Slots
from model.kernel.compression import Compression
from model.kernel.descriptor import Descriptor
from model.kernel.features import FeatureMap, KernelInputs
from model.kernel.learner import prior_precision
from model.kernel.posterior import BatchLikelihood, Expansion, Posterior
from model.kernel.start import KernelStart

EncodedProfiles = tuple[ProfileTable, FeatureEncoder]
_BATCH = 128
"""Examples that are seen before any of them is counted, as many as live."""


@dataclass(frozen=True)
class PretrainingLog:
    """The pretraining half with the names that live rows are kept under."""

    examples: Examples
    users: Sequence[str]
    """Identifiers by position; `items` likewise."""
    items: Sequence[str]
    space: DomainSpace
    values: Slots
    """Values of the items' crossed fields, int16 `(items, S)`."""

    @staticmethod
    def of(
        examples: Examples, users: Sequence[str], items: Sequence[str], space: DomainSpace, encoded: EncodedProfiles
    ) -> PretrainingLog:
        """The log of examples whose positions point into `users`, `items` and the encoded profiles."""
        profiles, encoder = encoded
        slots = ItemValues(encoder).of_rows(profiles.item_sparse.numpy(), profiles.item_weight.numpy())
        return PretrainingLog(examples, users, items, space, slots)

    def requests(self) -> Iterator[slice]:
        """The examples of one user, domain and moment after another."""
        part = self.examples
        same = (np.diff(part.user) == 0) & (np.diff(part.time) == 0) & (np.diff(part.domain, axis=0) == 0).all(1)
        edges = [0, *(np.flatnonzero(~same) + 1).tolist(), len(part)]
        return (slice(begin, end) for begin, end in pairwise(edges) if end > begin)

    def batches(self) -> Iterator[list[slice]]:
        """Requests until they hold as many examples as a micro-batch."""
        batch: list[slice] = []
        for request in self.requests():
            batch.append(request)
            if request.stop - batch[0].start >= _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch


def count_log(live: LiveFeatures, log: PretrainingLog, time: NDArray[np.float64]) -> None:
    """Counts the whole log into the live rows; `time` `(n,)` are event times in seconds on the stream's clock."""
    for batch in log.batches():
        _count(live, log, batch, time)


def kernel_start(
    log: PretrainingLog,
    live: LiveFeatures,
    pretrained: tuple[FrozenBackbone, ProfileTable],
    held_out: NDArray[np.float32],
    config: KernelConfig,
) -> KernelStart:
    """The start of a backbone's kernels; counts the whole log into `live`, which must be empty.

    `held_out` are the frozen logits of the newest examples by a model that was not trained on them.
    """
    space, examples = log.space, log.examples
    pairs = represent_log(log, pretrained, live.layout.history)
    x = pairs.x.astype(np.float32)
    group = examples.user * space.size + space.flat(examples.domain)
    shown = np.unique(examples.item)
    values = log.values[shown]
    hot = _multi_hot(values, live.layout.crossing.values)
    layout = live.layout
    features = FeatureMap(
        Compression.fit(x, group, beta=config.beta, rank=config.rank),
        Descriptor.fit(hot, pairs.frozen_logit),
        layout.residual_width,
        layout.width - layout.residual_width,
    )
    learned = _first_weights(log, live, x, held_out, features)
    return KernelStart(
        compression=features.compression,
        descriptor=features.descriptor,
        live_names=layout.names,
        residuals=layout.residual_width,
        mean=learned.means[0],
        direct_mean=learned.means[1],
        precision=learned.precision,
        examples=len(held_out),
    )


def represent_log(
    log: PretrainingLog, pretrained: tuple[FrozenBackbone, ProfileTable], spec: HistorySpec, first: int = 0
) -> RepresentedPairs:
    """The examples from `first` on as the backbone sees them, with what their users had done before."""
    part = slice(first, len(log.examples))
    past = past_events(log.examples, spec).of_pairs(part) if spec.length else None
    examples = log.examples.select(part)
    return represent_pairs(*pretrained, examples.user, examples.item, examples.domain, past, examples.query)


def drift_reference(
    log: PretrainingLog,
    pretrained: tuple[FrozenBackbone, ProfileTable],
    held_out: NDArray[np.float32],
    spec: HistorySpec,
) -> Reference | None:
    """The drift reference: the newest part of the log, scored by a model that was not trained on it.

    `held_out` as for `kernel_start`; None if there are none. `spec` says which events of a history the backbone reads.
    """
    if not len(held_out):
        return None
    first = len(log.examples) - len(held_out)
    newest = log.examples.select(slice(first, len(log.examples)))
    pairs = represent_log(log, pretrained, spec, first)
    return Reference.of(pairs.x, held_out, newest.label, newest.domain, log.space.sizes)


@torch.inference_mode()
def _first_weights(
    log: PretrainingLog,
    live: LiveFeatures,
    x: NDArray[np.float32],
    held_out: NDArray[np.float32],
    features: FeatureMap,
) -> Posterior:
    """The posterior of all features, and of the direct ones, after the newest examples; nothing is forgotten.

    T is zero on the log, so its weights stay at their prior.
    """
    first = len(log.examples) - len(held_out)
    posterior = Posterior(features.identity(), prior_precision(features), math.inf, [features.width, features.direct])
    for batch in log.batches():
        seen = [request for request in batch if request.start >= first]
        if seen:
            rows = slice(seen[0].start, seen[-1].stop)
            inputs = KernelInputs(
                torch.from_numpy(x[rows]),
                torch.from_numpy(np.concatenate([_live(live, log, request) for request in seen])),
                torch.from_numpy(log.values[log.examples.item[rows]]),
                torch.from_numpy(held_out[rows.start - first : rows.stop - first]),
            )
            phi, label = features.features(inputs), torch.from_numpy(log.examples.label[rows])
            expansion = Expansion(inputs.frozen_logit, features.overall_rate(phi))
            posterior = posterior.after(BatchLikelihood.of(phi, label, torch.ones_like(label), expansion))
        _count(live, log, batch, log.examples.time)
    return posterior


def _live(live: LiveFeatures, log: PretrainingLog, request: slice) -> NDArray[np.float32]:
    """The live features as one request of the log saw them, `(n, k)`, T at zero."""
    examples = log.examples.select(request)
    items = [log.items[item] for item in examples.item]
    content = np.zeros((len(items), live.layout.content_width), dtype=np.float32)
    asked = RequestItems(_domain(log, examples), content, log.values[examples.item])
    seen = live.features(float(examples.time[0]), log.users[examples.user[0]], asked, items)
    seen[:, : live.layout.residual_width] = 0.0
    return seen


def _count(live: LiveFeatures, log: PretrainingLog, batch: Sequence[slice], time: NDArray[np.float64]) -> None:
    live.update(log_outcomes(log, batch, time, live.layout.content_width), counters_only=True)


def log_outcomes(
    log: PretrainingLog, batch: Sequence[slice], time: NDArray[np.float64], content_width: int
) -> list[RequestOutcome]:
    """The requests of a batch as live rows take them; the frozen model was trained on them, so nothing is left over."""
    outcomes = []
    for request in batch:
        examples = log.examples.select(request)
        n = len(examples)
        outcomes.append(
            RequestOutcome(
                user_id=log.users[examples.user[0]],
                domain=_domain(log, examples),
                items=[log.items[item] for item in examples.item],
                content=np.zeros((n, content_width), dtype=np.float32),
                values=log.values[examples.item],
                click=examples.label,
                residual=np.zeros(n, dtype=np.float32),
                time=float(time[request.start]),
            )
        )
    return outcomes


def _domain(log: PretrainingLog, examples: Examples) -> Domain:
    return log.space.decode(examples.domain[0].tolist())


def _multi_hot(values: Slots, width: int) -> NDArray[np.float64]:
    """1 for each value that an item has, `(items, V)`."""
    hot = np.zeros((len(values), width + 1))
    np.put_along_axis(hot, values.astype(np.intp), 1.0, axis=1)  # an empty slot, -1, marks the last column
    return hot[:, :width]

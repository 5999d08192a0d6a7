"""What the pretraining log tells the kernel and the live features, before the first event is live.

The log is gone through once in time, by the code and in the order of the live stream: a batch is seen before it is
counted. The counters of the whole log are the first live rows; on the newest part of it, where the frozen logits are
those of a model that had not been trained on it, the kernel learns its first weights (docs/decisions/0085).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from features.live.features import LiveFeatures, RequestItems, RequestOutcome
from model.backbone.dataset import Examples, ProfileTable
from model.backbone.interface import FrozenBackbone, round_representation
from model.config import KernelConfig
from model.encoding.domain import Domain, DomainSpace
from model.encoding.item_values import ItemValues, Slots
from model.kernel.compression import Compression
from model.kernel.descriptor import Descriptor
from model.kernel.features import FeatureMap
from model.kernel.learner import prior_precision
from model.kernel.posterior import Posterior, information
from model.kernel.start import KernelStart

_REPRESENT = 8_192
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
        examples: Examples, users: Sequence[str], items: Sequence[str], space: DomainSpace,
        profiles: ProfileTable, values: ItemValues,
    ) -> PretrainingLog:  # fmt: skip
        """The log of examples whose positions point into `profiles`."""
        slots = values.of_rows(profiles.item_sparse.numpy(), profiles.item_weight.numpy())
        return PretrainingLog(examples, users, items, space, slots)

    def requests(self) -> Iterator[slice]:
        """The examples of one user, domain and moment after another."""
        part = self.examples
        same = (np.diff(part.user) == 0) & (np.diff(part.time) == 0) & (np.diff(part.domain, axis=0) == 0).all(1)
        edges = [0, *(np.flatnonzero(~same) + 1).tolist(), len(part)]
        return (slice(begin, end) for begin, end in zip(edges[:-1], edges[1:], strict=True) if end > begin)

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
    backbone: FrozenBackbone,
    profiles: ProfileTable,
    held_out: NDArray[np.float32],
    config: KernelConfig,
) -> KernelStart:
    """What a kernel of `backbone` starts from; counts the whole log into `live`, which is empty before, as it goes.

    `held_out` are the frozen logits of the newest examples by a model that was not trained on them.
    """
    x, frozen = represent_log(log, backbone, profiles)
    space, examples = log.space, log.examples
    group = examples.user * space.size + space.flat(examples.domain)
    shown = np.unique(examples.item)
    values = log.values[shown]
    hot = _multi_hot(values, live.layout.crossing.values)
    layout = live.layout
    compression = Compression.fit(x, group, beta=config.beta, rank=config.rank)
    descriptor = Descriptor.fit(hot, frozen)
    counters = layout.width - layout.drift_width
    learned = _first_weights(log, live, held_out, FeatureMap(compression, descriptor, 0, counters))
    return KernelStart(
        compression=compression,
        descriptor=descriptor,
        live_names=layout.names,
        drift=layout.drift_width,
        mean=learned.means[0],
        precision=learned.precision,
    )


@torch.inference_mode()
def represent_log(
    log: PretrainingLog, backbone: FrozenBackbone, profiles: ProfileTable
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rounded representations `(n, d)` and frozen logits `(n,)` of all examples."""
    examples, parts = log.examples, []
    for begin in range(0, len(examples), _REPRESENT):
        part = examples.select(slice(begin, begin + _REPRESENT))
        domain = torch.from_numpy(part.domain)
        batch = profiles.batch(torch.from_numpy(part.user), torch.from_numpy(part.item), domain)
        x = round_representation(backbone.represent(batch))
        parts.append((x.numpy(), backbone.predict(x, domain)[:, 0].numpy()))
    x_all, frozen = (np.concatenate(column) for column in zip(*parts, strict=True))
    return x_all, frozen


def _first_weights(
    log: PretrainingLog, live: LiveFeatures, held_out: NDArray[np.float32], direct: FeatureMap
) -> Posterior:
    """The posterior over frozen logit, constant and counters after the newest examples; nothing is forgotten."""
    width, first = direct.direct, len(log.examples) - len(held_out)
    prior = prior_precision(direct)[:width]
    posterior = Posterior(direct.identity()[:width], prior, np.inf, [width])
    time = log.examples.time
    for batch in log.batches():
        seen = [request for request in batch if request.start >= first]
        if seen:
            counters = np.concatenate([_counters(live, log, request) for request in seen])
            rows = slice(seen[0].start, seen[-1].stop)
            level = held_out[rows.start - first : rows.stop - first].clip(-15, 15)
            features = torch.from_numpy(np.column_stack([level, np.ones_like(level), counters]))
            label = torch.from_numpy(log.examples.label[rows])
            weight = torch.ones_like(label)
            posterior.learn(features, label, weight, information(features, posterior.logit(features, 0), weight))
        _count(live, log, batch, time)
    return posterior


def _counters(live: LiveFeatures, log: PretrainingLog, request: slice) -> NDArray[np.float32]:
    """The counters as one request of the log saw them, `(n, c)`."""
    examples = log.examples.select(request)
    items = [log.items[item] for item in examples.item]
    content = np.zeros((len(items), live.layout.content_width), dtype=np.float32)
    asked = RequestItems(_domain(log, examples), content, log.values[examples.item])
    user = log.users[examples.user[0]]
    return live.features(float(examples.time[0]), user, asked, items)[:, live.layout.drift_width :]


def _count(live: LiveFeatures, log: PretrainingLog, batch: Sequence[slice], time: NDArray[np.float64]) -> None:
    outcomes = []
    for request in batch:
        examples = log.examples.select(request)
        n = len(examples)
        outcomes.append(
            RequestOutcome(
                user_id=log.users[examples.user[0]],
                domain=_domain(log, examples),
                items=[log.items[item] for item in examples.item],
                content=np.zeros((n, live.layout.content_width), dtype=np.float32),
                values=log.values[examples.item],
                click=examples.label,
                residual=np.zeros(n, dtype=np.float32),
                time=float(time[request.start]),
            )
        )
    live.update(outcomes, counters_only=True)


def _domain(log: PretrainingLog, examples: Examples) -> Domain:
    return log.space.decode(examples.domain[0].tolist())


def _multi_hot(values: Slots, width: int) -> NDArray[np.float64]:
    """1 for each value that an item has, `(items, V)`."""
    hot = np.zeros((len(values), width + 1))
    np.put_along_axis(hot, values.astype(np.intp), 1.0, axis=1)  # an empty slot, -1, marks the last column
    return hot[:, :width]

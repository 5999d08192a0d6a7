"""The kernel alone over the source's frozen backbone: taught the target's first half, then stopped or going on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from features.live.features import LiveFeatures, RequestItems
from lab.adapters import ADAPTERS, Adapter, AdapterContext, StreamBatch
from lab.evaluate.known_labels import live_histories, live_outcomes
from lab.evaluate.label_times import decided_labels
from lab.evaluate.plan import KERNEL, Plan
from lab.evaluate.prepare import PreparedStream, prepare
from lab.evaluate.prequential import Outcome, run
from lab.evaluate.pretrained import Pretrained
from lab.kernel_start import count_log
from lab.represented import represent_pairs
from lab.streams import Chunk
from lab.transfer.scoring import Asked
from lab.transfer.task import PartedStream, Target
from model.backbone.examples import Examples
from model.config import NO_HISTORY
from model.encoding.history import PastEvents
from model.kernel.batch import MicroBatch


@dataclass(frozen=True)
class AdaptedKernel:
    """A kernel after the target's first half, with the live rows of that moment."""

    adapter: Adapter
    outcome: Outcome
    pretrained: Pretrained
    live: LiveFeatures
    now: float

    def logits(self, asked: Asked) -> NDArray[np.float32]:
        """Click logits of pairs in time order, `(n,)`, by what was known when the first half ended."""
        parts = [
            self._scored(asked.examples.select(part), None if asked.past is None else asked.past.of_pairs(part))
            for part in _stretches(asked.examples)
        ]
        return np.concatenate(parts)

    @torch.inference_mode()
    def _scored(self, examples: Examples, past: PastEvents | None) -> NDArray[np.float32]:
        """Logits of one user in one domain."""
        pretrained, log = self.pretrained, self.pretrained.log
        columns = examples.user, examples.item, examples.domain
        pairs = represent_pairs(pretrained.backbone, pretrained.profiles, *columns, past)
        values = log.values[examples.item]
        items_of_request = RequestItems(log.space.decode(examples.domain[0].tolist()), pairs.content, values)
        items = [log.items[item] for item in examples.item]
        live = self.live.features(self.now, log.users[examples.user[0]], items_of_request, items)
        frozen, label = torch.from_numpy(pairs.frozen_logit), torch.from_numpy(examples.label)
        micro = MicroBatch(
            x=torch.from_numpy(pairs.x.astype(np.float32)), live=torch.from_numpy(live),
            values=torch.from_numpy(values), domain=torch.from_numpy(examples.domain), label=label,
            frozen_logit=frozen, live_logit=frozen,
            weight=torch.ones_like(label), time=torch.from_numpy(examples.time),
        )  # fmt: skip
        scored = self.adapter.score(
            StreamBatch(micro, torch.from_numpy(examples.user), torch.from_numpy(examples.item))
        )
        return np.asarray(scored.numpy(), dtype=np.float32)


def adapt_kernel(plan: Plan, source: PartedStream, target: Target, pretrained: Pretrained, seed: int) -> AdaptedKernel:
    """A kernel that has learned the target's first half, as it would have live."""
    stream = replace(source, live=target.train)
    known = decided_labels(target.train, plan.config)
    past = live_histories(stream, pretrained, known)
    data = prepare(stream, pretrained, plan.config, past)
    adapter, outcome = _played(plan, source, pretrained, seed, data)
    live = LiveFeatures(replace(pretrained.layout, history=NO_HISTORY), plan.config.live)
    before = np.arange(len(pretrained.log.examples), dtype=np.float64) - 1e9
    count_log(live, pretrained.log, before / plan.config.requests_per_second)
    pairs = represent_pairs(pretrained.backbone, pretrained.profiles, data.user, data.item, data.domain, past)
    residual = (known.label - 1.0 / (1.0 + np.exp(-data.frozen_logit))).astype(np.float32)
    played = np.arange(len(target.train)) / plan.config.requests_per_second
    live.update(live_outcomes(stream, pretrained, known, pairs.content, residual, played))
    return AdaptedKernel(adapter, outcome, pretrained, live, float(played[-1]))


def adapt_further(
    plan: Plan, source: PartedStream, target: Target, pretrained: Pretrained, seed: int
) -> tuple[Adapter, Outcome]:
    """The same kernel after learning on in the second half, whose logits are the end of `outcome.logit`."""
    both = replace(source, live=Chunk.concat([target.train, target.test]))
    return _played(plan, source, pretrained, seed, prepare(both, pretrained, plan.config))


def _played(
    plan: Plan, source: PartedStream, pretrained: Pretrained, seed: int, data: PreparedStream
) -> tuple[Adapter, Outcome]:
    context = AdapterContext(
        backbone=pretrained.backbone, profiles=pretrained.profiles, history=pretrained.log.examples,
        start=pretrained.start, domain_sizes=source.catalogue.space.sizes, learner=plan.learner,
        training=plan.config.training, seed=seed,
    )  # fmt: skip
    adapter = ADAPTERS[KERNEL].build(context, ADAPTERS[KERNEL].rate)
    return adapter, run(adapter, data, plan.config.training.batch_examples)


def _stretches(examples: Examples) -> Iterator[slice]:
    """Stretches of one user and domain."""
    same = (np.diff(examples.user) == 0) & (np.diff(examples.domain, axis=0) == 0).all(1)
    edges = [0, *(np.flatnonzero(~same) + 1).tolist(), len(examples)]
    return (slice(begin, end) for begin, end in pairwise(edges))

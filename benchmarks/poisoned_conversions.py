"""What wrong conversions do to the live conversion probability, with the gate of the conversion task and without it.

Examples are clicked items, as `streaming.group.conversion_head` learns them: a request's clicks are scored when
they are served, enter the live rows at once, and teach when their conversion window has closed. A kernel is published
after every micro-batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from lab.conversions.known_conversions import KnownConversions, conversion_features
from lab.conversions.trial import conversion_kernel_start
from lab.evaluate.plan import Plan
from lab.evaluate.prepare import PreparedStream, prepare
from lab.evaluate.prequential import stream_batch
from lab.evaluate.pretrained import Pretrained
from lab.evaluate.work import ensure_pretrained, load_pretrained
from lab.replay.served_kernel import ServedKernel
from lab.streams import Chunk, Stream
from lab.streams.sources import Source
from model.gate.config import GateConfig
from model.gate.gate import Gate
from model.gate.guarded import GuardedLearner
from model.gate.scored_examples import ScoredExamples
from model.kernel.batch import MicroBatch
from model.kernel.learner import Learner
from model.kernel.start import KernelStart

ConversionPoison = Literal["none", "conversions flipped", "no conversions", "every click converts"]
CONVERSION_POISONS: tuple[ConversionPoison, ...] = get_args(ConversionPoison)
Doubles = NDArray[np.float64]
_NO_KEPT_STATE = 10**12


@dataclass(frozen=True)
class ConvertingHalf:
    """The live half of a stream with conversions, as the conversion task sees it."""

    stream: Stream
    pretrained: Pretrained
    plan: Plan
    known: KnownConversions
    data: PreparedStream
    start: KernelStart

    @property
    def requests(self) -> int:
        """Number of requests."""
        return int(self.known.request[-1]) + 1

    @staticmethod
    def of(plan: Plan, source: Source, seed: int) -> ConvertingHalf:
        """The live half of a source; its backbone, trained for both tasks, is kept in the plan's folder."""
        stream = source.open(seed, plan.cache_dir)
        ensure_pretrained(plan, stream, seed)
        pretrained = load_pretrained(plan, stream, seed)
        known = KnownConversions.of(Chunk.concat(list(stream.chunks("live"))), plan.config)
        data = prepare(stream, pretrained, plan.config)
        return ConvertingHalf(stream, pretrained, plan, known, data, conversion_kernel_start(plan, pretrained))


@dataclass(frozen=True)
class ConversionScores:
    """The clicked examples of a play in the order in which they were served, `(n,)`."""

    live: Doubles
    """Logit of P(conversion | click) that was served."""
    frozen: Doubles
    truth: Doubles
    """Whether the click really converted."""
    request: NDArray[np.int64]
    """Index of the live half's request."""
    set_aside: int
    """Clicks that the gate did not let teach."""


def poisoned_conversions(known: KnownConversions, poison: ConversionPoison, span: tuple[int, int]) -> KnownConversions:
    """The conversions of a live half with those of the clicks in the requests of `span` wrong, or nothing."""
    inside = known.clicked & (known.request >= span[0]) & (known.request < span[1])
    if poison == "none":
        return known
    never = np.zeros_like(known.converted)
    wrong = {"conversions flipped": ~known.converted, "no conversions": never, "every click converts": ~never}[poison]
    invented = inside & ~known.converted
    return replace(
        known,
        converted=np.where(inside, wrong, known.converted),
        converted_at=np.where(invented, known.clicked_at, known.converted_at),  # an invented one comes with its click
    )


def play_conversions(
    half: ConvertingHalf, poison: ConversionPoison, span: tuple[int, int], gate: GateConfig | None
) -> ConversionScores:
    """Serves every request and learns its clicks once their window has closed; without a `gate` nothing is judged."""
    known = poisoned_conversions(half.known, poison, span)
    with torch.inference_mode():
        return _ConversionPlay(half, known, gate).run()


class _ConversionPlay:
    """The conversion task of one group; requests of the gate are numbers of live requests."""

    def __init__(self, half: ConvertingHalf, known: KnownConversions, gate: GateConfig | None) -> None:
        data = half.data
        assert data.cvr_logit is not None and data.conversion is not None
        self._known, self._truth = known, data.conversion.astype(np.float64)
        features = conversion_features(half.stream, half.pretrained, known, data.cvr_logit, half.plan.config)
        label = known.converted.astype(np.float32)
        self._view = replace(data, live=features, frozen_logit=data.cvr_logit, label=label)
        self._names = half.pretrained.log.users, half.pretrained.log.items
        space, learner = half.stream.catalogue.space, half.plan.learner
        self._size = half.plan.config.training.batch_examples
        self._learner = Learner(half.start, learner, fingerprint="played", domain_sizes=space.sizes)
        self._served = ServedKernel(half.start)
        self._logit = np.zeros(len(data), dtype=np.float32)
        self._version = np.zeros(half.requests, dtype=np.int64)
        self._guarded = None
        if gate is not None:
            config = gate.model_copy(update={"good_every_examples": _NO_KEPT_STATE})
            judge = Gate[int](config, space.values, self._scored, labels="conversions")
            self._guarded = GuardedLearner(self._learner, judge, lambda requests: self._batch(self._part(requests)))

    def run(self) -> ConversionScores:
        """Serves scoring batch by scoring batch; requests whose windows have closed by its end teach after it."""
        view, known = self._view, self._known
        edges = np.searchsorted(view.batch, np.arange(view.batches + 1), side="left")
        waiting, closed_at = _closing(known)
        closed = np.searchsorted(closed_at, np.arange(view.batches), side="right")
        taken, pending = 0, list[int]()
        for batch in range(view.batches):
            part = np.arange(edges[batch], edges[batch + 1])
            self._logit[part] = self._served.kernel.logit(self._batch(part).inputs).numpy()
            self._version[known.request[part]] = self._served.version
            for request in waiting[taken : closed[batch]].tolist():
                pending.append(request)
                if len(self._part(pending)) >= self._size:
                    self._learn(pending)
                    pending = []
            taken = int(closed[batch])
        clicked = np.flatnonzero(known.clicked)
        return ConversionScores(
            live=self._logit[clicked].astype(np.float64),
            frozen=view.frozen_logit[clicked].astype(np.float64),
            truth=self._truth[clicked],
            request=known.request[clicked],
            set_aside=0 if self._guarded is None else self._guarded.gate.set_aside,
        )

    def _learn(self, requests: list[int]) -> None:
        if self._guarded is None:
            self._learner.learn(self._batch(self._part(requests)))
            self._served.publish(self._learner.candidate)
            return
        step = self._guarded.step(requests)
        for batch in step.batches:
            if batch.error is not None:
                raise batch.error
        self._served.follow(step, self._guarded.gate, self._learner.candidate)

    def _part(self, requests: Sequence[int]) -> NDArray[np.int64]:
        """The clicked examples of some requests."""
        begin = self._known.click_labels.begin
        rows = [np.arange(begin[request], begin[request + 1]) for request in requests]
        return np.concatenate([row[self._known.clicked[row]] for row in rows])

    def _batch(self, part: NDArray[np.int64]) -> MicroBatch:
        return stream_batch(self._view, part, served=self._logit).micro

    def _scored(self, requests: Sequence[int]) -> ScoredExamples:
        view, part = self._view, self._part(requests)
        users, items = self._names
        first = self._known.click_labels.begin[np.asarray(requests)]
        return ScoredExamples(
            label=view.label[part].astype(np.float64),
            frozen=view.frozen_logit[part].astype(np.float64),
            live=self._logit[part].astype(np.float64),
            request=np.repeat(np.arange(len(requests)), [len(self._part([request])) for request in requests]),
            user=[users[user] for user in view.user[first]],
            item=[items[item] for item in view.item[part]],
            domain=view.domain[first],
            version=self._version[np.asarray(requests)],
        )


def _closing(known: KnownConversions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Requests with clicks as the windows of all their clicks close, and after which scoring batches."""
    request, position = np.unique(known.request[known.clicked], return_inverse=True)
    closed_at = np.zeros(len(request), dtype=np.int64)
    np.maximum.at(closed_at, position, known.closed_at[known.clicked])
    order = np.argsort(closed_at, kind="stable")
    return request[order], closed_at[order]

"""Replays a live half through a learner, with or without a gate.

It uses the stream processor's live features, learner and gate, in the order of `streaming.group.machine`. The one
difference is that a kernel is published after every micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from features.live.features import LiveFeatures, RequestItems
from features.live.outcome import RequestOutcome
from lab.adapters.training import GradientTraining
from lab.replay.feedback import Feedback
from lab.replay.half import LiveHalf, ReplayRequests
from lab.replay.record import Recorder
from lab.replay.served_kernel import ServedKernel
from model.config import LearnerConfig
from model.evaluation import sigmoid
from model.gate.config import GateConfig
from model.gate.gate import Gate
from model.gate.guarded import GuardedBatch, GuardedLearner, is_counted
from model.gate.scored_examples import ScoredExamples
from model.kernel.batch import MicroBatch
from model.kernel.features import KernelInputs
from model.kernel.learner import Learner

Part = NDArray[np.int64]
_NOT_LEARNED = -1


@dataclass(frozen=True)
class ReplayedExamples:
    """The measured examples of a replay, in order, `(n,)`."""

    live: NDArray[np.float64]
    """Logit that was served."""
    frozen: NDArray[np.float64]
    truth: NDArray[np.float64]
    request: NDArray[np.int64]
    place: NDArray[np.float64]
    """When, in requests of the live half."""
    set_aside: int
    """Examples that the gate did not let teach."""


def replay(
    half: LiveHalf, replayed: ReplayRequests, gate: GateConfig | None, recorder: Recorder | None = None
) -> ReplayedExamples:
    """Serves every request, and learns it once its labels are decided; without a `gate` nothing is judged or recorded.

    `recorder` notes every request that is served and every micro-batch that is decided.
    """
    with torch.inference_mode():
        return _GuardedReplay(half, replayed, gate, recorder).run()


class _GuardedReplay:
    """Requests are numbered as replayed, their examples likewise."""

    def __init__(
        self, half: LiveHalf, replayed: ReplayRequests, gate: GateConfig | None, recorder: Recorder | None
    ) -> None:
        self._half, self._replayed, self._recorder = half, replayed, recorder
        self._config = LearnerConfig(batch_examples=GradientTraining.batch_examples)
        shown = half.chunk.shown
        edges = np.concatenate([[0], np.cumsum(shown.sum(axis=1))])
        self._counts = shown.sum(axis=1)[replayed.origin]
        self._edges = np.concatenate([[0], np.cumsum(self._counts)])
        first = edges[replayed.origin] - self._edges[:-1]
        self._source = np.arange(self._edges[-1]) + np.repeat(first, self._counts)
        """Index of the live half's example that is served."""
        self._request = np.repeat(np.arange(len(self._counts)), self._counts)
        self._item = half.chunk.items[shown][self._source]
        cells = shown[replayed.origin]
        click, delay = replayed.click[cells], replayed.delay[cells].astype(np.float64)
        self._label = (click & (delay <= half.join_s)).astype(np.float32)
        self._truth = replayed.truth[cells].astype(np.float64)
        self._time = np.interp(replayed.place, np.arange(len(half.chunk)), half.chunk.time)
        self._feedback = Feedback.of(click, delay, self._time[self._request], (half.join_s, half.horizon_s))
        self._learned_at = np.zeros(len(self._source), dtype=np.int64)
        """`Learner.examples` right after the micro-batch that learned an example; 0 before that."""
        self._weight = np.ones(len(self._source))
        """Weight of an example when it was learned."""
        self._features = np.zeros((len(self._source), half.layout.width), dtype=np.float32)
        self._logit = np.zeros(len(self._source), dtype=np.float32)
        self._version = np.zeros(len(replayed.origin), dtype=np.int64)
        self._live = LiveFeatures(half.layout, half.live)
        self._live.restore(half.rows)
        self._learner = Learner(half.start, self._config, fingerprint="played", domain_sizes=half.space.sizes)
        self._guarded = None if gate is None else self._guard(gate)
        self._served = ServedKernel(half.start)

    def _guard(self, config: GateConfig) -> GuardedLearner[int]:
        return GuardedLearner(self._learner, Gate[int](config, self._half.space.values, self._scored), self._batch)

    def run(self) -> ReplayedExamples:
        """Serves block by block; labels decided by the end of a block are learned after it."""
        taken, pending = 0, list[int]()
        for requests in self._blocks():
            self._serve(requests)
            now = float(self._time[requests[-1]])
            while taken <= requests[-1] and self._time[taken] + self._half.join_s <= now:
                pending.append(taken)
                taken += 1
                if self._counts[pending].sum() >= self._config.batch_examples:
                    self._learn(pending)
                    pending = []
            self._correct(self._feedback.until(now))
            if self._recorder is not None and self._guarded is not None:
                self._recorder.judge(self._guarded.gate, self._feedback, now)
        return self._examples()

    def _examples(self) -> ReplayedExamples:
        keep = np.repeat(self._replayed.measured, self._counts)
        return ReplayedExamples(
            live=self._logit[keep].astype(np.float64),
            frozen=self._half.pairs.frozen_logit[self._source][keep].astype(np.float64),
            truth=self._truth[keep],
            request=self._request[keep],
            place=np.repeat(self._replayed.place, self._counts)[keep],
            set_aside=0 if self._guarded is None else self._guarded.gate.set_aside,
        )

    def _blocks(self) -> Iterator[list[int]]:
        """Requests that are scored together, a micro-batch's worth."""
        block = self._edges[:-1] // self._config.batch_examples
        for requests in np.split(np.arange(len(block)), np.flatnonzero(np.diff(block)) + 1):
            yield requests.tolist()

    def _part(self, requests: Sequence[int]) -> Part:
        return np.concatenate([np.arange(self._edges[request], self._edges[request + 1]) for request in requests])

    # --- serve, learn, publish ---

    def _serve(self, requests: Sequence[int]) -> None:
        part, pairs = self._part(requests), self._half.pairs
        for request in requests:
            outcome = self._outcome(request)
            items = RequestItems(outcome.domain, outcome.content, outcome.values)
            rows = slice(self._edges[request], self._edges[request + 1])
            self._features[rows] = self._live.features(outcome.time, outcome.user_id, items, outcome.items)
        frozen, live = pairs.frozen_logit[self._source[part]], self._served.kernel.logit(self._inputs(part)).numpy()
        self._logit[part] = frozen + self._replayed.gain[self._request[part]].astype(np.float32) * (live - frozen)
        self._version[requests] = self._served.version
        if self._recorder is None:
            return
        for request, domain in zip(requests, self._domain(requests), strict=True):
            rows = slice(self._edges[request], self._edges[request + 1])
            source = self._source[rows]
            self._recorder.served(
                pairs.frozen_logit[source], self._logit[rows], pairs.x[source], domain, float(self._time[request])
            )

    def _learn(self, requests: list[int]) -> None:
        if self._guarded is None:
            self._learner.learn(self._batch(requests))
            self._learned_at[self._part(requests)] = self._learner.examples
            self._live.update([self._outcome(request) for request in requests])
            self._served.publish(self._learner.candidate)
            return
        step = self._guarded.step(requests)
        for batch in step.batches:
            if batch.error is not None:
                raise batch.error
            self._live.update([self._outcome(request) for request in batch.counted])
            self._note(batch)
        self._served.follow(step, self._guarded.gate, self._learner.candidate)
        if self._recorder is not None:
            self._recorder.followed(step.decisions)

    def _note(self, batch: GuardedBatch[int]) -> None:
        """Notes when each request was taught, and records it."""
        self._weight[self._part(batch.requests)] = batch.weight
        for request, is_learned in zip(batch.requests, batch.learned.tolist(), strict=True):
            self._learned_at[self._edges[request] : self._edges[request + 1]] = (
                batch.learned_at if is_learned else _NOT_LEARNED
            )
        if self._recorder is not None:
            newest = float(self._time[batch.requests].max())
            self._recorder.learned(batch, newest)

    def _correct(self, late: Part) -> None:
        """Takes late clicks: what waits will be learned as clicked, what was taught is put right."""
        self._label[late] = 1.0
        late = late[self._learned_at[late] > 0]
        self._live.correct([self._clicked(example) for example in late.tolist() if self._is_counted(example)])
        if self._guarded is not None:
            late = late[[not self._guarded.was_undone(at) for at in self._learned_at[late].tolist()]]
        if len(late):
            weight = torch.from_numpy(self._weight[late].astype(np.float32))
            self._learner.correct(replace(self._batch_of(late), weight=weight), self._learned_at[late])

    def _is_counted(self, example: int) -> bool:
        return bool(is_counted(self._weight[self._part([int(self._request[example])])].mean()))

    # --- what the parts see ---

    def _inputs(self, part: Part) -> KernelInputs:
        source, pairs = self._source[part], self._half.pairs
        return KernelInputs(
            torch.from_numpy(pairs.x[source].astype(np.float32)),
            torch.from_numpy(self._features[part]),
            torch.from_numpy(self._half.values[self._item[part]]),
            torch.from_numpy(pairs.frozen_logit[source]),
        )

    def _batch(self, requests: Sequence[int]) -> MicroBatch:
        return self._batch_of(self._part(requests))

    def _batch_of(self, part: Part) -> MicroBatch:
        inputs, label, request = self._inputs(part), torch.from_numpy(self._label[part]), self._request[part]
        return MicroBatch(
            x=inputs.x,
            live=inputs.live,
            values=inputs.values,
            domain=torch.from_numpy(self._domain(request)),
            label=label,
            frozen_logit=inputs.frozen_logit,
            live_logit=torch.from_numpy(self._logit[part]),
            weight=torch.ones_like(label),
            time=torch.from_numpy(self._time[request]),
        )

    def _scored(self, requests: Sequence[int]) -> ScoredExamples:
        part, half = self._part(requests), self._half
        return ScoredExamples(
            label=self._label[part].astype(np.float64),
            frozen=half.pairs.frozen_logit[self._source[part]].astype(np.float64),
            live=self._logit[part].astype(np.float64),
            request=np.repeat(np.arange(len(requests)), self._counts[requests]),
            user=[half.users[half.chunk.user[self._replayed.origin[request]]] for request in requests],
            item=[half.items[item] for item in self._item[part]],
            domain=self._domain(requests),
            version=self._version[requests],
        )

    def _domain(self, requests: Sequence[int] | Part) -> NDArray[np.int64]:
        return self._half.chunk.domain[self._replayed.origin[requests]]

    def _outcome(self, request: int) -> RequestOutcome:
        part, half = self._part([request]), self._half
        source, label = self._source[part], self._label[part]
        origin = self._replayed.origin[request]
        return RequestOutcome(
            user_id=half.users[half.chunk.user[origin]],
            domain=half.space.decode(half.chunk.domain[origin]),
            items=[half.items[item] for item in self._item[part]],
            content=half.pairs.content[source],
            values=half.values[self._item[part]],
            click=label,
            residual=(label - sigmoid(half.pairs.frozen_logit[source])).astype(np.float32),
            time=float(self._replayed.place[request]) / half.pace,
        )

    def _clicked(self, example: int) -> RequestOutcome:
        """A late click as a correction of its own."""
        outcome, source = self._outcome(int(self._request[example])), self._source[[example]]
        turned, item = np.ones(1, dtype=np.float32), self._item[[example]]
        return replace(
            outcome, items=[self._half.items[item[0]]], content=self._half.pairs.content[source],
            values=self._half.values[item], click=turned, residual=turned,
        )  # fmt: skip

"""One kernel group as a deterministic state machine over its partition of `traffic`.

Each record goes the same way, and the methods stand in its order:

1. read (`feed`): what cannot be used is refused, counted, and left out;
2. join (`_take`): the record moves event time, bounded by the broker's clock; a window closes once impressions *and*
   feedback are known up to its end, and its labels are decided;
3. relabel (`_relabel`): a click for a closed request changes the label that still waits, or waits for its correction;
4. learn (`_learn`): labelled requests fill a micro-batch; the gate weighs it, sets aside what it does not believe, and
   the kernel learns the rest (`model.gate.guarded`);
5. live features (`_taught`): the same examples move the counters and residuals of their user, items and domain;
6. publish (`_publish_what_is_due`): now and then the candidate becomes the kernel that scorers take, unless the gate
   holds it; where a live kernel does harm, what replaces it is published at once;
7. correct (`_correct`): late clicks change kernel and live features as if they had been on time.

No broker, no clock, no thread in here. The same records from the same state give the same kernel, bit for bit, wherever
snapshots were taken and however often records are read again: that is what makes a kill harmless (`docs/recovery.md`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.live.features import LiveFeatures
from features.live.layout import Kind, LiveRow
from model.config import LearnerConfig
from model.container import ContainerError
from model.control_users import NO_CONTROL, ControlUsers
from model.encoding.domain import DomainSpace
from model.gate.config import GateConfig
from model.gate.decision import GateDecision
from model.gate.feedback import FeedbackPath
from model.gate.gate import Gate, KeptState, Weighed
from model.gate.guarded import GuardedBatch, GuardedLearner, Step
from model.kernel.batch import MicroBatch
from model.kernel.compatibility import dependencies
from model.kernel.kernel import Kernel
from model.kernel.learner import Learner, LearnReport
from model.kernel.record import KernelInfo
from streaming.config import JoinConfig
from streaming.events import LearningOrder, Traffic
from streaming.events.decisions import Decision
from streaming.kernel_log.closed import NEVER_TAUGHT, ClosedChanges, ClosedSegment
from streaming.kernel_log.errors import SnapshotError
from streaming.kernel_log.join_state import WaitingBatch
from streaming.kernel_log.snapshot import GroupSnapshot
from streaming.processor.batches import corrected_examples, corrected_outcome, micro_batch, outcome, seen
from streaming.processor.corrections import Corrections, LoggedTraffic, turn
from streaming.processor.experiment import Experiment
from streaming.processor.join import Join, Joined, LabelledRequest, LateClick
from streaming.processor.recovery import Recovery
from streaming.processor.traffic_reader import TrafficReader, Widths

log = logging.getLogger(__name__)
GATE = "gate"
"""Who decides, in decisions of the gate."""


@dataclass(frozen=True)
class PublishedKernel:
    """A kernel for the scorers, with its card."""

    kernel: Kernel
    info: KernelInfo
    depends_on: Mapping[str, Any]
    """What its weights depend on (`model.kernel.compatibility`)."""


@dataclass(frozen=True)
class Learned:
    """What one micro-batch did."""

    batch: MicroBatch
    request: NDArray[np.int64]
    """Which request of the batch each example belongs to, `(n,)`, rising from 0."""
    report: LearnReport
    published: PublishedKernel | None
    """The kernel published behind it, if one was due."""


class GroupMachine:
    """Learns one group from its records in order. `dropped` counts records it could not use, by reason."""

    def __init__(
        self,
        group: str,
        *,
        fingerprint: str,
        widths: Widths,
        space: DomainSpace,
        learner: Learner,
        live: LiveFeatures,
        first_rows: Sequence[LiveRow],
        join: JoinConfig,
        config: LearnerConfig,
        gate: GateConfig,
        control: ControlUsers = NO_CONTROL,
        traffic: LoggedTraffic,
    ) -> None:
        """`first_rows` are what `live` knows before the first record; `traffic` has what late clicks belong to."""
        self.group, self.learner = group, learner
        self.guarded = _guarded(learner, gate, space)
        self._decisions: list[Decision] = []
        self._lost_before = self._kept_written = 0
        self.live = live
        live.restore(first_rows)
        self.first_keys: frozenset[tuple[Kind, str]] = frozenset((row.kind, row.key) for row in first_rows)
        self.join = Join(join)
        self.published: PublishedKernel | None = None
        """The newest kernel published since this machine began; an earlier one stands in the kernel log."""
        self.examples = self.version = 0
        self.learning = True
        """False while an operator has stopped learning: labelled requests are skipped and counted."""
        self._skipped: Counter[str] = Counter()
        self.experiment = Experiment(group, control)
        self._fingerprint, self._depends_on = fingerprint, dependencies(learner.start, space.sizes)
        self._reader = TrafficReader(group, fingerprint, widths)
        self._late = Corrections(self.join.closed, self._reader, traffic, self.join.dropped)
        self.late_clicks: Counter[str] = Counter()
        """Clicks that came after their window, by what became of them: relabelled, corrected."""
        self._space, self._config = space, config
        self._pending: list[LabelledRequest] = []
        self._pending_since = 0.0
        self._published_at = self._newest_event_time = float("-inf")
        self._recovery: Recovery | None = None
        self._position = self._rows_offset = 0

    @property
    def position(self) -> int:
        """Offset of the next record it will take; earlier ones are skipped."""
        return self._position

    @property
    def rows_offset(self) -> int:
        """All records before it are in the live rows, none from it on."""
        return max(self._position, self._rows_offset)

    @property
    def recovering(self) -> bool:
        """Whether it still re-reads records that its snapshot has already learned from."""
        return self._recovery is not None

    @property
    def dropped(self) -> Counter[str]:
        """Records that could not be used, by reason, since this machine began."""
        return self._reader.refused + self.join.dropped + self._skipped + self.experiment.dropped

    # --- records: read, join, relabel ---

    def feed(self, offset: int, value: bytes | None, appended: float) -> list[Learned]:
        """Takes the record at `offset`; returns the micro-batches it completed. A record seen before is skipped.

        `appended` is when the broker appended it, seconds: the one clock that all processes share.

        The numbers go on where `GroupLoader.load` ends: see `docs/recovery.md`, section Taking over.
        """
        if offset < self._position:
            return []  # Faust goes back further than one group needs: what was learned must not be learned twice
        self._position = offset + 1
        if self._recovery is not None:
            # 4. Re-read: what the snapshot refers to stands in the log, nothing of it is learned again (0070).
            if offset < self._recovery.snapshot.next_offset:
                self._reread(self._recovery, offset, value, appended)
                return []
            # 5. Go on: this record and all later ones are news.
            self._finish_recovery(self._recovery)
        record = self._reader.read(offset, value)
        if record is None:
            return []
        return self._obey(record) if isinstance(record, LearningOrder) else self._take(offset, record, appended)

    def _obey(self, order: LearningOrder) -> list[Learned]:
        """What was labelled before the order is still learned."""
        learned = self._learn() if self._pending else []
        learned += self._take_step(self.guarded.settle())
        self._correct()
        self.learning = order.learning
        log.warning("group %s: learning %s, ordered by %s", self.group, order.learning, order.by)
        return learned

    def _take(self, offset: int, record: Traffic, appended: float) -> list[Learned]:
        learned = []
        joined = self._join(offset, record, appended)
        if joined.late is not None:
            self._relabel(joined.late)
        for request in joined.closed:
            self.experiment.take(request, self.join.watermark)
        if not self.learning:
            self._skip(joined.closed)
            return []
        for request in joined.closed:
            if not self._pending:
                self._pending_since = self.join.watermark
            self._pending.append(request)
            if sum(len(r.impression.items) for r in self._pending) >= self._config.batch_examples:
                learned += self._learn()
        # The watermark, not a clock, ends a batch that fills slowly: a replay must cut the same batches (0090).
        if self._pending and self._waited(self._pending_since):
            learned += self._learn()
        if len(self._late) >= self._config.batch_examples or (len(self._late) and self._waited(self._late.since)):
            self._correct()
        return learned

    def _join(self, offset: int, record: Traffic, appended: float) -> Joined:
        was_paused = self.join.paused
        try:
            joined = self.join.feed(offset, record, appended)
        except Exception as error:  # noqa: BLE001 - whatever one record holds, the others are learned from
            self._reader.refuse(offset, "unjoinable", repr(error))
            return Joined([])
        if self.join.paused and not was_paused:
            log.error(
                "group %s: learning is paused: ingest has not told that it has read the feedback of requests whose "
                "window ended; they are dropped unlearned (feedback_unread) until it has; look at ingest",
                self.group,
            )
        elif was_paused and not self.join.paused:
            log.warning("group %s: learning goes on, ingest has read the feedback that was missing", self.group)
        return joined

    def _skip(self, requests: Sequence[LabelledRequest]) -> None:
        """Learns nothing from them, now or ever: a late click finds that they were not taught."""
        self._skipped["learning_stopped"] += sum(len(request.impression.items) for request in requests)
        self.join.closed.learned(len(requests), NEVER_TAUGHT)

    def _waited(self, since: float) -> bool:
        return self.join.watermark - since >= self._config.batch_seconds

    def _relabel(self, late: LateClick) -> None:
        if late.request.learned_at == NEVER_TAUGHT or not self.learning:
            self._skipped["set_aside" if self.learning else "learning_stopped"] += 1
            return
        if late.request.learned_at > 0:
            self._late.add(late, self.join.watermark)
            return
        in_doubt = (request for batch in self.guarded.gate.waiting for request in batch.requests)
        labelled = chain(self._pending, in_doubt)
        waiting = next(request for request in labelled if request.offset == late.request.offset)
        turned = turn(late.request, waiting.impression, late.item_id, waiting.clicks, self.join.dropped)
        self.late_clicks["relabelled"] += turned

    # --- micro-batches: learn, live features, publish ---

    def _learn(self) -> list[Learned]:
        requests, self._pending = self._pending, []
        lost = self._lost_feedback
        clicks = sum(int(request.clicks.sum()) for request in requests)
        path = FeedbackPath(clicks, lost - self._lost_before, self.join.paused)
        self._lost_before = lost
        return self._take_step(self.guarded.step(requests, path))

    @property
    def _lost_feedback(self) -> int:
        return self.join.dropped["late_feedback"] + self.join.dropped["orphan_feedback"]

    def _take_step(self, step: Step[LabelledRequest]) -> list[Learned]:
        learned = [one for batch in step.batches if (one := self._taught(batch)) is not None]
        for decision in step.decisions:
            self._tell(decision)
        published = self._publish_what_is_due(step)
        if learned and published is not None:
            learned[-1] = dataclasses.replace(learned[-1], published=published)
        return learned

    def _taught(self, batch: GuardedBatch[LabelledRequest]) -> Learned | None:
        for request, taught in zip(batch.requests, batch.taught.tolist(), strict=True):
            self.join.closed.learned(1, batch.learned_at if taught else NEVER_TAUGHT)
            if not taught:
                self._skipped["set_aside" if batch.error is None else "unlearnable"] += len(request.impression.items)
        if batch.error is not None:
            log.error(
                "group %s: a micro-batch cannot be learned (%r) and is left out: the requests at offsets %s",
                self.group, batch.error, ", ".join(str(request.offset) for request in batch.requests[:20]),
            )  # fmt: skip
        if batch.batch is None or batch.request is None or batch.report is None:
            return None
        # The kernel learned with the live features that were served, so they may move only behind it.
        if self._position > self._rows_offset:  # or they hold these examples already, see `restore`
            self.live.update([outcome(request) for request in batch.counted])
        self.examples += len(batch.batch)
        self._newest_event_time = max(self._newest_event_time, float(batch.batch.time.max()))
        return Learned(batch.batch, batch.request, batch.report, None)

    def _tell(self, decided: GateDecision) -> None:
        log.warning("group %s: %s: %s", self.group, decided.kind, decided.detail)
        self._decisions.append(Decision(decided.kind, self.group, self.join.watermark, GATE, decided.detail))

    def take_decisions(self) -> list[Decision]:
        """What was decided about kernels since the last call."""
        decisions, self._decisions = self._decisions, []
        return [*decisions, *self.experiment.take_decisions()]

    def _publish_what_is_due(self, step: Step[LabelledRequest]) -> PublishedKernel | None:
        gate = self.guarded.gate
        if step.served is not None:  # at once, whatever the pace: what is live does harm (0094)
            published = self._publish(step.served)
            gate.harm.serve(self.version)
            return published
        # Event time again: a replay publishes the same versions as the first run did.
        due = self.join.watermark - self._published_at >= self._config.publish_seconds
        if not due or gate.held or not any(batch.batch is not None for batch in step.batches):
            return None
        gate.harm.published()
        return self._publish(self.learner.candidate)

    def _publish(self, kernel: Kernel) -> PublishedKernel:
        self.version += 1
        self._published_at = self.join.watermark
        self.published = self._carded(kernel, self.version)
        return self.published

    def as_kernel(self, version: int) -> PublishedKernel:
        """The candidate as it would be published now."""
        return self._carded(self.learner.candidate, version)

    def _carded(self, kernel: Kernel, version: int) -> PublishedKernel:
        info = KernelInfo(
            group=self.group,
            version=version,
            backbone_fingerprint=self._fingerprint,
            newest_event_time=self._newest_event_time,
            examples=self.examples,
        )
        return PublishedKernel(kernel, info, self._depends_on)

    # --- late clicks: correct ---

    def _correct(self) -> None:
        corrections = self._late.take()
        standing = [one for one in corrections if not self.guarded.was_undone(one.learned_at)]
        if not standing:
            return
        batch, learned_at = corrected_examples(standing, self._space)
        try:
            self.learner.correct(batch, learned_at)
        except Exception as error:  # noqa: BLE001 - as in `_learn`
            self._skipped["unlearnable"] += len(batch)
            log.error("group %s: late clicks cannot be learned (%r) and are left out", self.group, error)
            return
        if self._position > self._rows_offset:
            self.live.correct([corrected_outcome(correction) for correction in standing])
        self.late_clicks["corrected"] += len(batch)

    # --- state: snapshot, restore, re-read ---

    def take_closed(self) -> ClosedChanges:
        """What changed in the closed requests since the last call: to be written with the next `snapshot`, or lost."""
        return self.join.closed.cut()

    def snapshot(self) -> GroupSnapshot:
        """The state between two records. Raises RuntimeError while it recovers: the old snapshot still holds."""
        if self._recovery is not None:
            raise RuntimeError(f"group {self.group!r} has not finished its recovery")
        gate = self.guarded.gate
        # Open and pending requests stand in it by offset: the log has their tensors (decision 0070).
        return GroupSnapshot(
            group=self.group,
            fingerprint=self._fingerprint,
            next_offset=self._position,
            version=self.version,
            examples=self.examples,
            newest_event_time=self._newest_event_time,
            published_at=self._published_at,
            join=self.join.state(),
            late=self._late.state(),
            late_since=self._late.since,
            pending=[request.reference for request in self._pending],
            pending_since=self._pending_since,
            learner=self.learner.snapshot(),
            gate={**self.guarded.state(), "lost": self._lost_feedback - self._lost_before},
            waiting=[_waiting(batch) for batch in gate.waiting],
            good=0 if gate.good is None else gate.good.number,
            next_good=0 if gate.next_good is None else gate.next_good.number,
            learning=self.learning,
            uplift=self.experiment.snapshot(),
        )

    def restore(
        self,
        snapshot: GroupSnapshot,
        rows: Iterable[LiveRow],
        closed: Mapping[int, ClosedSegment],
        rows_offset: int = 0,
        kept: Sequence[KeptState] = (),
    ) -> None:
        """Goes back to `snapshot`; records from `snapshot.resume_offset` on must follow.

        `rows` hold all records before `rows_offset`, which may be more than the snapshot has seen: they stay as they
        are until learning has come as far. That is exact, for the kernel learns from the features that were served.
        `closed` are the segments of its closed requests by number, `kept` the learner's kept states.

        Raises SnapshotError, before anything is changed, if the learner cannot take its part of the snapshot.
        """
        try:
            self.learner.restore(snapshot.learner)
        except ContainerError as error:
            raise SnapshotError(f"the snapshot of group {self.group!r} cannot be used: {error}") from error
        self.live.restore(rows)
        self._rows_offset = rows_offset
        self.version, self.examples = snapshot.version, snapshot.examples
        self._newest_event_time, self._published_at = snapshot.newest_event_time, snapshot.published_at
        self._pending_since, self.learning = snapshot.pending_since, snapshot.learning
        self.experiment.restore(snapshot.uplift)
        self._position = snapshot.resume_offset
        self.join.restore(snapshot.join, closed)
        self._late.restore(snapshot.late, snapshot.late_since)
        self.guarded.load(snapshot.gate)
        self._lost_before = -int(snapshot.gate["lost"])
        gate = self.guarded.gate
        gate.good, gate.next_good = (self._kept(kept, number) for number in (snapshot.good, snapshot.next_good))
        self._kept_written = max(snapshot.good, snapshot.next_good)
        self._recovery = Recovery(snapshot, self.join)

    def _kept(self, kept: Sequence[KeptState], number: int) -> KeptState | None:
        for state in kept:
            if state.number == number:
                try:
                    self.learner.check(state.learner)
                except ContainerError as error:
                    log.error("group %s: the kept state %d cannot be used: %s", self.group, number, error)
                    return None
                return state
        if number:
            log.error("group %s: the kept state %d is missing: what is undone goes further back", self.group, number)
        return None

    def take_kept(self) -> list[KeptState]:
        """States of the learner that it may go back to, since the last call: to be written with the next snapshot."""
        gate = self.guarded.gate
        fresh = [one for one in (gate.good, gate.next_good) if one is not None and one.number > self._kept_written]
        self._kept_written = max([self._kept_written, *(one.number for one in fresh)])
        return fresh

    def _reread(self, recovery: Recovery, offset: int, value: bytes | None, appended: float) -> None:
        if recovery.needs(offset):
            record = self._reader.read(offset, value)
            if record is not None:
                recovery.take(offset, record, appended)

    def _finish_recovery(self, recovery: Recovery) -> None:
        snapshot, refused = recovery.snapshot, self._reader.refused
        self.join.dropped.clear()  # counted by the owner before, when the same records came for the first time
        refused.clear()
        if recovery.missing:
            log.warning(
                "group %s: traffic lacks %d requests that its snapshot refers to; they are lost, nothing is learned "
                "from them; raise topics.traffic_retention_h",
                self.group,
                recovery.missing,
            )
            refused["lost_in_recovery"] += recovery.missing
        self.guarded.gate.waiting = recovery.rebuild_waiting()
        self._pending = recovery.rebuild(snapshot.pending)
        in_doubt = [request for batch in self.guarded.gate.waiting for request in batch.requests]
        for request in [*in_doubt, *self._pending]:
            self.join.closed.add(request.impression.request_id, request.reference, request.impression.time)
        self._recovery = None


def _waiting(batch: Weighed[LabelledRequest]) -> WaitingBatch:
    refs = [request.reference for request in batch.requests]
    return WaitingBatch(refs, batch.weight.tobytes(), batch.left.tobytes())


def _guarded(learner: Learner, config: GateConfig, space: DomainSpace) -> GuardedLearner[LabelledRequest]:
    gate = Gate[LabelledRequest](config, space.values, lambda requests: seen(requests, space))
    return GuardedLearner(learner, gate, lambda requests: micro_batch(requests, space))

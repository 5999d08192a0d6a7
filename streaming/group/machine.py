"""One kernel group as a deterministic state machine over its partition of `traffic`.

Each record passes the same steps, and the methods follow in this order:

1. read (`feed`): unusable records are refused and counted (`traffic_reader`);
2. join (`_take`): the record advances event time, bounded by the broker's clock; a window closes once impressions *and*
   feedback are known up to its end, and its labels are decided (`streaming.join`);
3. relabel (`_take_late`): a click for a closed request changes a label that still waits to be learned, or waits for its
   own correction (`late_clicks`);
4. learn (`_learn`): labelled requests fill a micro-batch; the gate weighs it and sets aside what it does not believe,
   and the kernel learns the rest (`model.gate.guarded`); the drift monitor sees all of it (`drift_monitor`);
5. live features (`_follow_gate`): the same examples update the counters and residuals of their user, items and domain
   (`batch_recorder`, `live_rows`);
6. publish (`_follow_gate`): now and then the candidate is published for the scorers, unless the gate holds it; a kernel
   that replaces a harmful live kernel is published at once (`kernel_publisher`);
7. correct (`_correct`): late clicks change kernel and live features as if they had been on time (`late_clicks`);
8. conversions (`_learn_conversions`), for a backbone with conversions: clicked requests whose labels are final teach a
   kernel of their own, which is published together with that of clicks (`conversions`, `conversion_head`).

There is no broker, clock or thread here. The same records from the same state give the same kernel, bit for bit,
however snapshots were taken and records read again. That is why a kill does no harm (`docs/recovery.md`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from features.live.layout import LiveRow
from model.gate.feedback import FeedbackPath
from model.gate.gate import LearnerCheckpoint
from model.gate.guarded import Step
from streaming.events import LearningOrder, ServedFeedback, Traffic
from streaming.events.decisions import Decision
from streaming.group.learned import Learned
from streaming.group.parts import GroupParts
from streaming.group.pending_requests import waiting_request
from streaming.group.recovery import Recovery
from streaming.group.snapshot import restore_parts, take_snapshot
from streaming.join.join import NOTHING, LabelledRequest, LateClick, LateConversion
from streaming.kernel_log.closed import ClosedChanges, ClosedSegment
from streaming.kernel_log.snapshot import GroupSnapshot

log = logging.getLogger(__name__)


class GroupMachine:
    """Learns one group from its records in order: it passes each to the group's parts, step by step."""

    def __init__(self, parts: GroupParts) -> None:
        """`parts` have taken no record yet; `restore` brings an earlier state back into them."""
        self.group, self.first_keys, self._config = parts.group, parts.first_keys, parts.config
        self.join, self.guarded, self.learner = parts.join, parts.guarded, parts.guarded.learner
        self.rows, self.late_clicks, self.conversions = parts.rows, parts.late_clicks, parts.conversions
        self.publisher, self.drift, self.experiment = parts.publisher, parts.drift, parts.experiment
        self._parts, self._pending, self._decisions = parts, parts.pending, parts.decisions
        self.learning = True
        """False while an operator has stopped learning; labelled requests are then skipped and counted."""
        self.position = 0
        """Offset of the next record to take; earlier ones are skipped."""
        self._recovery: Recovery | None = None

    # --- records: read, join, relabel ---

    def feed(self, offset: int, value: bytes | None, appended: float) -> list[Learned]:
        """Takes the record at `offset`; returns the micro-batches that it completed. A repeated record is skipped.

        `appended` is when the broker appended it, seconds, by the one clock that all processes share.

        The numbered comments continue those of `GroupLoader.load`: see `docs/recovery.md`, section Taking over.
        """
        if offset < self.position:
            return []  # Faust may go back further than this group needs, and nothing may be learned twice
        self.position = offset + 1
        if self._recovery is not None:
            # 4. Re-read: fetch the records that the snapshot refers to; none of them is learned again (0070).
            if offset < self._recovery.snapshot.next_offset:
                self._recovery.feed(offset, value, appended)
                return []
            # 5. Continue: this record and all later ones are new.
            self._recovery.finish()
            self._recovery = None
        record = self._parts.reader.read(offset, value)
        if record is None:
            return []
        return self._apply_order(record) if isinstance(record, LearningOrder) else self._take(offset, record, appended)

    def _apply_order(self, order: LearningOrder) -> list[Learned]:
        """Carries out an operator's order; requests labelled before it are still learned."""
        learned = self._learn() if self._pending else []
        learned += self._follow_gate(self.guarded.settle())
        self._correct()
        self._learn_conversions()
        self._follow_gate_of_conversions(self.conversions.settle())
        self.learning = order.learning
        log.warning("group %s: learning %s, ordered by %s", self.group, order.learning, order.by)
        return learned

    def _take(self, offset: int, record: Traffic, appended: float) -> list[Learned]:
        """Steps 2 to 8 for one record; returns the micro-batches that it completed."""
        joined = self._parts.guarded_join.feed(offset, record, appended)
        if joined is NOTHING and isinstance(record, ServedFeedback):
            return []  # most records; only the watermark makes anything due, and they do not move it
        watermark = self.join.watermark
        if joined.shown is not None:
            self.drift.served(joined.shown)
        if joined.late is not None:
            self._take_late(joined.late, watermark)
        for request in joined.closed:
            self.experiment.take(request, watermark)
            self.conversions.labelled(request)
        self._look_after_conversions(watermark)
        if not self.learning:
            self._parts.recorder.skip(joined.closed)
            return []
        learned = []
        for request in joined.closed:
            self._pending.add(request, watermark)
            if self._pending.examples >= self._config.batch_examples:
                learned += self._learn()
        # Event time, not a clock, ends a batch that fills slowly, because a replay must cut the same batches (0090).
        if self._pending and watermark - self._pending.since >= self._config.batch_seconds:
            learned += self._learn()
        if self.late_clicks.gathered.is_due(watermark):
            self._correct()
        if self.drift.is_due(watermark):
            self._judge(FeedbackPath(0, 0, self.join.paused))
        return learned

    def _take_late(self, late: LateClick | LateConversion, watermark: float) -> None:
        """Passes on feedback for a closed request, with the request if that still waits to be learned."""
        waiting = waiting_request(late.request, self._pending, self.guarded.gate)
        if isinstance(late, LateConversion):
            self.conversions.take(late, waiting, watermark)
            return
        self.drift.late_click()
        if self.learning:
            self.late_clicks.take(late, waiting, watermark)
        else:
            self._parts.skipped["learning_stopped"] += 1

    # --- micro-batches: learn, live features, publish ---

    def _learn(self) -> list[Learned]:
        """Passes the pending requests to the gate, which learns what it believes of them."""
        requests = self._pending.take()
        path = self._parts.lost.path(requests)
        learned = self._follow_gate(self.guarded.step(requests, path))
        self._judge(path)
        return learned

    def _judge(self, path: FeedbackPath) -> None:
        """Keeps the drift monitor's decisions for the next whole cut."""
        self._decisions.add(self.drift.judge(path, self.join, self.dropped))

    def _follow_gate(self, step: Step[LabelledRequest]) -> list[Learned]:
        """Follows the gate: live rows, drift monitor and decisions, then a kernel if one is due."""
        # The kernel learned with the live features that were served, so they must change only afterwards.
        recorded = [self._parts.recorder.record(batch, into_rows=self._rows_follow) for batch in step.batches]
        learned = [result for result in recorded if result is not None]
        for batch in step.batches:
            self.drift.decided(batch)
        self.drift.followed(step.decisions)
        self._decisions.of_gate(step.decisions, self.join.watermark)
        published = self.publisher.publish_what_is_due(step, self.join.watermark)
        if learned and published is not None:
            learned[-1] = dataclasses.replace(learned[-1], published=published)
        return learned

    # --- late clicks and conversions ---

    def _correct(self) -> None:
        """Corrects kernel and live rows by the late clicks gathered so far."""
        self.late_clicks.correct(into_rows=self._rows_follow)

    def _look_after_conversions(self, watermark: float) -> None:
        """Looks up later conversions and learns from mature requests, each when it is due."""
        if self.conversions.gathered.is_due(watermark):
            self.conversions.look_up(into_rows=self.learning and self._rows_follow)
        if not self.learning:
            self.conversions.skip()
        elif self.conversions.is_due(watermark, self._config.batch_examples):
            self._learn_conversions()

    def _learn_conversions(self) -> None:
        """Passes the mature requests to the gate of conversions."""
        self._follow_gate_of_conversions(self.conversions.learn(into_rows=self.learning and self._rows_follow))

    def _follow_gate_of_conversions(self, step: Step[LabelledRequest]) -> None:
        """Reports decisions and publishes a kernel that cannot wait; the next kernel of clicks carries any other."""
        self._decisions.of_gate(step.decisions, self.join.watermark, "conversions")
        self.publisher.publish_conversions(step)

    # --- state ---

    @property
    def rows_offset(self) -> int:
        """The live rows contain all records before this offset and none from it on."""
        return max(self.position, self.rows.included)

    @property
    def _rows_follow(self) -> bool:
        """Whether live rows take what is learned; not while they already contain it, restored from a newer cut."""
        return self.position > self.rows.included

    @property
    def recovering(self) -> bool:
        """Whether it is re-reading records that its snapshot has already learned."""
        return self._recovery is not None

    @property
    def dropped(self) -> Counter[str]:
        """Unusable records by reason, counted since this machine was made."""
        return self._parts.dropped

    def take_decisions(self) -> list[Decision]:
        """Decisions about kernels and the experiment since the last call."""
        return [*self._decisions.take(), *self.experiment.take_decisions()]

    def take_checkpoints(self) -> list[LearnerCheckpoint]:
        """States to which the learner may return, new since the last call; written with the next snapshot."""
        return self._parts.checkpoints.take()

    def take_closed(self) -> ClosedChanges:
        """Changes of the closed requests since the last call; the next `snapshot` must be written with them."""
        return self.join.closed.cut()

    def snapshot(self) -> GroupSnapshot:
        """The state between two records. Raises RuntimeError during recovery, when the old snapshot is still valid."""
        if self.recovering:
            raise RuntimeError(f"group {self.group!r} has not finished its recovery")
        return take_snapshot(self._parts, self.position, learning=self.learning)

    def restore(
        self,
        snapshot: GroupSnapshot,
        rows: Iterable[LiveRow],
        closed: Mapping[int, ClosedSegment],
        rows_offset: int = 0,
        kept: Sequence[LearnerCheckpoint] = (),
    ) -> None:
        """Goes back to `snapshot`; the records from `snapshot.resume_offset` on must be fed next.

        `rows` contain all records before `rows_offset`, which may be later than the snapshot. They then stay unchanged
        until learning has reached that offset. This is exact, because the kernel learns from the features that were
        served. `closed` are the segments of the closed requests by number, `kept` the learner's checkpoints.

        Raises SnapshotError, before any change, if the learner cannot restore its part of the snapshot.
        """
        restore_parts(self._parts, snapshot, rows=rows, closed=closed, rows_offset=rows_offset, kept=kept)
        self.learning, self.position = snapshot.learning, snapshot.resume_offset
        self._recovery = Recovery(snapshot, self._parts)

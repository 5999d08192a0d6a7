"""One kernel group as a deterministic state machine over its partition of `traffic`.

Each record passes the same steps, and the methods follow in this order:

1. read (`feed`): unusable records are refused and counted;
2. join (`_take`): the record advances event time, bounded by the broker's clock; a window closes once impressions *and*
   feedback are known up to its end, and its labels are decided;
3. relabel (`_relabel`): a click for a closed request changes a label that still waits to be learned, or waits for its
   own correction;
4. learn (`_learn`): labelled requests fill a micro-batch; the gate weighs it and sets aside what it does not believe,
   and the kernel learns the rest (`model.gate.guarded`); the drift monitor sees all of it (`group_drift_monitor`);
5. live features (`_record_learned`): the same examples update the counters and residuals of their user, items and
   domain;
6. publish (`_publish_what_is_due`): now and then the candidate is published for the scorers, unless the gate holds it;
   a kernel that replaces a harmful live kernel is published at once;
7. correct (`_correct`): late clicks change kernel and live features as if they had been on time;
8. conversions (`_learn_conversions`), for a backbone with conversions: clicked requests whose labels are final teach a
   kernel of their own, which is published together with that of clicks (`conversion_head`).

There is no broker, clock or thread here. The same records from the same state give the same kernel, bit for bit,
however snapshots were taken and records read again. That is why a kill does no harm (`docs/recovery.md`).
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from itertools import chain

import numpy as np

from model.gate.decision import GateDecision
from model.gate.feedback import FeedbackPath
from model.gate.guarded import GuardedBatch, Step, is_counted
from model.kernel.kernel import Kernel
from streaming.events import LearningOrder, Traffic
from streaming.events.decisions import Decision
from streaming.kernel_log.closed import NOT_LEARNED
from streaming.processor.batches import corrected_examples, corrected_outcomes, outcomes
from streaming.processor.conversion_head import ConversionHead
from streaming.processor.corrections import Corrections, turn
from streaming.processor.group_state import GroupState
from streaming.processor.join import NOTHING, Joined, LabelledRequest, LateClick, LateConversion
from streaming.processor.learned import Learned, PublishedKernel

log = logging.getLogger(__name__)
GATE = "gate"
"""Name of the decider in the gate's decisions."""


class GroupMachine(GroupState):
    """Learns one group from its records in order. `dropped` counts unusable records, by reason."""

    # --- records: read, join, relabel ---

    def feed(self, offset: int, value: bytes | None, appended: float) -> list[Learned]:
        """Takes the record at `offset`; returns the micro-batches that it completed. A repeated record is skipped.

        `appended` is when the broker appended it, seconds, by the one clock that all processes share.

        The numbered comments continue those of `GroupLoader.load`: see `docs/recovery.md`, section Taking over.
        """
        if offset < self._position:
            return []  # Faust may go back further than this group needs, and nothing may be learned twice
        self._position = offset + 1
        if self._recovery is not None:
            # 4. Re-read: fetch the records that the snapshot refers to; none of them is learned again (0070).
            if offset < self._recovery.snapshot.next_offset:
                self._reread(self._recovery, offset, value, appended)
                return []
            # 5. Continue: this record and all later ones are new.
            self._finish_recovery(self._recovery)
        record = self._reader.read(offset, value)
        if record is None:
            return []
        return self._apply_order(record) if isinstance(record, LearningOrder) else self._take(offset, record, appended)

    def _apply_order(self, order: LearningOrder) -> list[Learned]:
        """Carries out an operator's order; requests labelled before it are still learned."""
        learned = self._learn() if self._pending else []
        learned += self._take_step(self.guarded.settle())
        self._correct()
        self._learn_conversions()
        if (head := self.conversions.head) is not None:
            self._take_conversions(head, head.settle())
        self.learning = order.learning
        log.warning("group %s: learning %s, ordered by %s", self.group, order.learning, order.by)
        return learned

    def _take(self, offset: int, record: Traffic, appended: float) -> list[Learned]:
        """Steps 2 to 8 for one record; returns the micro-batches that it completed."""
        learned = []
        joined = self._join(offset, record, appended)
        if joined.shown is not None:
            self.drift.served(joined.shown)
        if isinstance(joined.late, LateClick):
            self.drift.late_click()
            self._relabel(joined.late)
        elif joined.late is not None:
            waiting = self._waiting_request(joined.late) if joined.late.request.learned_at < 0 else None
            self.conversions.take(joined.late, waiting, self.join.watermark)
        for request in joined.closed:
            self.experiment.take(request, self.join.watermark)
            self.conversions.labelled(request)
        self._follow_conversions()
        if not self.learning:
            self._skip(joined.closed)
            return []
        for request in joined.closed:
            self._pending.add(request, self.join.watermark)
            if self._pending.examples >= self._config.batch_examples:
                learned += self._learn()
        # Event time, not a clock, ends a batch that fills slowly, because a replay must cut the same batches (0090).
        if self._pending and self._waited(self._pending.since):
            learned += self._learn()
        if self._is_due(self._late):
            self._correct()
        if self.drift.is_due(self.join.watermark):
            self._judge(FeedbackPath(0, 0, self.join.paused))
        return learned

    def _join(self, offset: int, record: Traffic, appended: float) -> Joined:
        """Joins a record; one that raises is refused and closes nothing. Logs when learning is paused and goes on."""
        was_paused = self.join.paused
        try:
            joined = self.join.feed(offset, record, appended)
        except Exception as error:  # noqa: BLE001 - one bad record must not stop the learning of the others
            self._reader.refuse(offset, "unjoinable", repr(error))
            return NOTHING
        if self.join.paused and not was_paused:
            log.error(
                "group %s: learning is paused: ingest has not reported that it has read the feedback of requests whose "
                "window ended; they are dropped unlearned (feedback_unread) until it has; look at ingest",
                self.group,
            )
        elif was_paused and not self.join.paused:
            log.warning("group %s: learning goes on, ingest has read the missing feedback", self.group)
        return joined

    def _skip(self, requests: Sequence[LabelledRequest]) -> None:
        """Marks requests as never learned, so that late clicks for them are not learned either."""
        self._skipped["learning_stopped"] += sum(len(request.impression.items) for request in requests)
        self.join.closed.learned(len(requests), NOT_LEARNED)

    def _waited(self, since: float) -> bool:
        """Whether a micro-batch that began at watermark `since` has waited long enough for more examples."""
        return self.join.watermark - since >= self._config.batch_seconds

    def _is_due(self, gathered: Corrections) -> bool:
        """Whether late feedback should be looked up now: there is enough of it, or the oldest has waited."""
        return len(gathered) >= self._config.batch_examples or (len(gathered) > 0 and self._waited(gathered.since))

    def _relabel(self, late: LateClick) -> None:
        """Turns the label of a request that waits, or keeps the click for the correction of one that was learned."""
        if late.request.learned_at == NOT_LEARNED or not self.learning:
            # The whole request was set aside; teaching its clicks without its other items would be a bias (0145).
            self._skipped["unlearned_click" if self.learning else "learning_stopped"] += 1
            return
        if late.request.learned_at > 0:
            self._late.add(late, self.join.watermark)
            return
        waiting = self._waiting_request(late)
        turned = turn("click", late.request, waiting.impression, late.item_id, waiting.clicks, self.join.dropped)
        self.late_clicks["relabelled"] += turned

    def _waiting_request(self, late: LateClick | LateConversion) -> LabelledRequest:
        """The request that feedback belongs to, while it waits for its micro-batch or for the gate."""
        in_doubt = (request for batch in self.guarded.gate.waiting for request in batch.requests)
        return next(r for r in chain(self._pending, in_doubt) if r.offset == late.request.offset)

    # --- micro-batches: learn, live features, publish ---

    def _learn(self) -> list[Learned]:
        """Passes the pending requests to the gate, which learns what it believes of them."""
        requests = self._pending.take()
        lost = self._lost_feedback
        clicks = sum(int(request.clicks.sum()) for request in requests)
        path = FeedbackPath(clicks, lost - self._lost_before, self.join.paused)
        self._lost_before = lost
        learned = self._take_step(self.guarded.step(requests, path))
        self._judge(path)
        return learned

    def _judge(self, path: FeedbackPath) -> None:
        """Keeps the drift monitor's decisions for the next whole cut."""
        self._decisions += self.drift.judge(path, self.join, self.dropped)

    def _take_step(self, step: Step[LabelledRequest]) -> list[Learned]:
        """Follows the gate: live rows, drift monitor and decisions, then a kernel if one is due."""
        learned = [result for batch in step.batches if (result := self._record_learned(batch)) is not None]
        for batch in step.batches:
            self.drift.decided(batch)
        self.drift.followed(step.decisions)
        for decision in step.decisions:
            self._report_decision(decision)
        published = self._publish_what_is_due(step)
        if learned and published is not None:
            learned[-1] = dataclasses.replace(learned[-1], published=published)
        return learned

    def _record_learned(self, batch: GuardedBatch[LabelledRequest]) -> Learned | None:
        """Notes of each request whether and when it was learned, and updates live rows; None if nothing was learned."""
        ends = np.cumsum([len(request.impression.items) for request in batch.requests])
        weights = np.split(batch.weight, ends[:-1])
        for request, is_learned, weight in zip(batch.requests, batch.learned.tolist(), weights, strict=True):
            learned_at = batch.learned_at if is_learned else NOT_LEARNED
            weighs = is_learned and bool((weight < 1.0).any())
            self.join.closed.learned(1, learned_at, weight.tobytes() if weighs else b"")
            if not is_learned:
                self._skipped["set_aside" if batch.error is None else "unlearnable"] += len(request.impression.items)
        if batch.error is not None:
            log.error(
                "group %s: a micro-batch cannot be learned (%r) and is left out: the requests at offsets %s",
                self.group, batch.error, ", ".join(str(request.offset) for request in batch.requests[:20]),
            )  # fmt: skip
        if batch.batch is None or batch.request is None or batch.report is None:
            return None
        # The kernel learned with the live features that were served, so they must change only afterwards.
        if self._rows_follow:
            self.live.update(outcomes(batch.counted))
            self.conversions.clicked(batch.counted)
        self.publisher.learned(batch.batch)
        return Learned(batch.batch, batch.request, batch.report, None)

    def _report_decision(self, decided: GateDecision) -> None:
        log.warning("group %s: %s: %s", self.group, decided.kind, decided.detail)
        self._decisions.append(Decision(decided.kind, self.group, self.join.watermark, GATE, decided.detail))

    def take_decisions(self) -> list[Decision]:
        """Decisions about kernels since the last call."""
        decisions, self._decisions = self._decisions, []
        return [*decisions, *self.experiment.take_decisions()]

    def _publish_what_is_due(self, step: Step[LabelledRequest]) -> PublishedKernel | None:
        """Publishes the kernel that the gate wants served instead of a harmful one, or the candidate when it is due."""
        gate = self.guarded.gate
        if step.served is not None:  # at once, whatever the interval, because the live kernel does harm (0094)
            published = self.publisher.publish(step.served, self.join.watermark)
            gate.harm.serve(self.version)
            return published
        # Event time again, so that a replay publishes the same versions as the first run.
        due = self.join.watermark - self.publisher.published_at >= self._config.publish_seconds
        if not due or gate.held or not any(batch.batch is not None for batch in step.batches):
            return None
        gate.harm.published()
        return self.publisher.publish(self.learner.candidate, self.join.watermark)

    def as_kernel(self, version: int) -> PublishedKernel:
        """The candidate as if it were published now, under `version`."""
        return self.publisher.described(self.learner.candidate, version)

    # --- late clicks: correct ---

    def _correct(self) -> None:
        """Looks up all late clicks and corrects kernel and live rows, except for examples that the gate has undone."""
        corrections = self._late.take()
        standing = [correction for correction in corrections if not self.guarded.was_undone(correction.learned_at)]
        clicks = sum(int(correction.request.clicks.sum()) for correction in corrections)
        if standing:
            batch, learned_at = corrected_examples(standing, self._space)
            try:
                self.learner.correct(batch, learned_at)
            except Exception as error:  # noqa: BLE001 - as in `_learn`
                self._skipped["unlearnable"] += clicks
                log.error("group %s: late clicks cannot be learned (%r) and are left out", self.group, error)
                return
            self.late_clicks["corrected"] += len(batch)
            clicks -= len(batch)
        self._skipped["unlearned_click"] += clicks
        if self._rows_follow:  # rows keep undone examples, weighted as they were counted
            counted = [correction for correction in corrections if is_counted(correction.weight.mean())]
            self.live.correct(corrected_outcomes(counted))
            self.conversions.clicked([correction.request for correction in counted])

    # --- conversions ---

    def _follow_conversions(self) -> None:
        """Looks up later conversions and learns from mature requests, each when it is due."""
        if self._is_due(self.conversions.gathered):
            self._look_up_conversions()
        if not self.learning:
            self._skipped["learning_stopped"] += self.conversions.skip()
        elif self.conversions.is_due(self.join.watermark, self._config.batch_examples):
            self._learn_conversions()

    def _look_up_conversions(self) -> None:
        self.conversions.look_up(into_rows=self.learning and self._rows_follow)

    def _learn_conversions(self) -> None:
        """Learns from the mature requests; later conversions are looked up first, because they are labels of these."""
        head, mature = self.conversions.head, self.conversions.mature
        if head is None or not mature:
            return
        self._look_up_conversions()
        step = self.conversions.learn()
        if step is not None:
            self._take_conversions(head, step)

    def _take_conversions(self, head: ConversionHead, step: Step[LabelledRequest]) -> None:
        """Follows the gate of conversions: counts, decisions, and a kernel that cannot wait for one of clicks."""
        for batch in step.batches:
            if batch.error is not None:
                self._skipped["unlearnable"] += len(batch.requests)
                log.error("group %s: conversions cannot be learned (%r) and are left out", self.group, batch.error)
            else:
                self._skipped["set_aside"] += int(batch.scored.select(~batch.learned).label.size)
        for decision in step.decisions:
            self._report_decision(GateDecision(decision.kind, {**decision.detail, "task": "conversions"}))
        instead = step.served
        learned = any(batch.batch is not None for batch in step.batches) and not head.gate.held
        # Otherwise the next kernel of clicks carries what was learned.
        if instead is not None or (learned and self.guarded.gate.held):
            self.publisher.publish_beside(head.beside or Kernel.identity(self.learner.start), instead)

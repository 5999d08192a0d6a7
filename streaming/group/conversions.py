"""A group's conversions: those known when the labels are decided, those that come later, and what is learned of them.

A conversion takes longer than a click, often longer than labels can wait. The kernel of clicks does not learn it. A
later conversion is looked up in the log, counted once, and added to the experiment (decision 0129). For a backbone with
conversions it also corrects their live rows, and clicked requests whose labels are final teach their head
(`conversion_head`).
"""

from __future__ import annotations

import logging
from collections import Counter

from model.gate.guarded import Step, is_counted
from streaming.group.conversion_head import ConversionHead
from streaming.group.corrections import Corrections, LoggedRequests, turn
from streaming.group.experiment import Experiment
from streaming.join.join import LabelledRequest, LateConversion
from streaming.join.mature_requests import MatureRequests

log = logging.getLogger(__name__)


class GroupConversions:
    """Counts a group's conversions and teaches them to its head. `skipped` counts what is not learned, by reason.

    `gathered` are later conversions that wait to be looked up in the log. `head` and `mature` are None for a backbone
    of clicks alone, which counts conversions and learns none.
    """

    def __init__(
        self,
        group: str,
        gathered: Corrections,
        *,
        logged: LoggedRequests,
        experiment: Experiment,
        head: ConversionHead | None,
        mature: MatureRequests | None,
        skipped: Counter[str],
    ) -> None:
        self.gathered, self.head, self.mature = gathered, head, mature
        self._group, self._logged, self._experiment, self._skipped = group, logged, experiment, skipped
        self.counts: Counter[str] = Counter()
        """Conversions by time of arrival: `in_window`, with the labels, or `later`."""

    def labelled(self, request: LabelledRequest) -> None:
        """Counts the conversions of a request whose labels are decided; the experiment takes them with the request."""
        if request.conversions.any():
            self.counts["in_window"] += int(request.conversions.sum())

    def take(self, late: LateConversion, waiting: LabelledRequest | None, watermark: float) -> None:
        """Takes a conversion of a closed request; `waiting` is that request while it waits for its micro-batch."""
        if waiting is None:
            self.gathered.add(late, watermark)
            return
        impression, labels = waiting.impression, waiting.conversions
        if turn("conversion", late.request, impression, late.item_id, labels, self.gathered.dropped):
            self._count(waiting, 1)

    def look_up(self, *, into_rows: bool) -> None:
        """Looks up all gathered conversions in the log and counts them, also in the head's live rows if `into_rows`."""
        found = self.gathered.take()
        for correction in found:
            self._count(correction.request, int(correction.request.conversions.sum()))
        if self.head is not None and into_rows:
            self.head.converted([correction for correction in found if is_counted(correction.weight.mean())])

    def _count(self, request: LabelledRequest, conversions: int) -> None:
        self.counts["later"] += conversions
        self._experiment.convert(request.impression, conversions)

    # --- the head; without one these do nothing ---

    def is_due(self, watermark: float, batch_examples: int) -> bool:
        """Whether the mature requests should be learned now (`MatureRequests.due`)."""
        return self.mature is not None and self.mature.due(watermark, batch_examples)

    def skip(self) -> None:
        """Removes the mature requests without learning from them, because learning is stopped."""
        if self.mature is not None:
            self._skipped["learning_stopped"] += len(self.mature.take())

    def learn(self, *, into_rows: bool) -> Step[LabelledRequest]:
        """Learns from the mature requests, whose impressions are read from the log (0142).

        Later conversions are looked up first (`look_up`), because they are labels of these. Requests that the log no
        longer has are counted as `uncorrectable`.
        """
        if self.head is None or not self.mature:
            return Step()
        self.look_up(into_rows=into_rows)
        mature = self.mature.take()
        requests = [found for closed in mature if (found := self._logged.labelled(closed)) is not None]
        self.gathered.dropped["uncorrectable"] += len(mature) - len(requests)
        return self._counted(self.head.learn(requests)) if requests else Step()

    def settle(self) -> Step[LabelledRequest]:
        """Decides all examples whose labels are in doubt (`ConversionHead.settle`)."""
        return Step() if self.head is None else self._counted(self.head.settle())

    def _counted(self, step: Step[LabelledRequest]) -> Step[LabelledRequest]:
        """Counts what the head's gate has set aside and what its learner refused."""
        for batch in step.batches:
            if batch.error is not None:
                self._skipped["unlearnable"] += len(batch.requests)
                log.error("group %s: conversions cannot be learned (%r) and are left out", self._group, batch.error)
            else:
                self._skipped["set_aside"] += int(batch.scored.select(~batch.learned).label.size)
        return step

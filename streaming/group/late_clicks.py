"""A group's late clicks: each changes the label of its request, which still waits to be learned or was learned."""

from __future__ import annotations

import logging
from collections import Counter

from model.encoding.domain import DomainSpace
from model.gate.guarded import GuardedLearner, is_counted
from streaming.group.batches import corrected_examples
from streaming.group.corrections import Corrections, turn
from streaming.group.live_rows import GroupRows
from streaming.join.join import LabelledRequest, LateClick
from streaming.kernel_log.closed import NOT_LEARNED

log = logging.getLogger(__name__)


class LateClicks:
    """Relabels requests that wait, and corrects what was learned. `skipped` counts clicks that change nothing."""

    def __init__(
        self,
        group: str,
        gathered: Corrections,
        *,
        guarded: GuardedLearner[LabelledRequest],
        rows: GroupRows,
        space: DomainSpace,
        skipped: Counter[str],
    ) -> None:
        """`gathered` holds the clicks that wait to be looked up in the log."""
        self.gathered = gathered
        self.counts: Counter[str] = Counter()
        """Late clicks by outcome: relabelled, corrected."""
        self._group, self._guarded, self._rows, self._space, self._skipped = group, guarded, rows, space, skipped

    def take(self, late: LateClick, waiting: LabelledRequest | None, watermark: float) -> None:
        """Turns the label of a request that waits, or gathers the click for the correction of one that was learned.

        `waiting` is the click's request while it waits for its micro-batch or for the gate.
        """
        if late.request.learned_at == NOT_LEARNED:
            # The whole request was set aside; teaching its clicks without its other items would be a bias (0145).
            self._skipped["unlearned_click"] += 1
        elif waiting is None:
            self.gathered.add(late, watermark)
        else:
            labels, dropped = waiting.clicks, self.gathered.dropped
            turned = turn("click", late.request, waiting.impression, late.item_id, labels, dropped)
            self.counts["relabelled"] += turned

    def correct(self, *, into_rows: bool) -> None:
        """Looks up the gathered clicks in the log; corrects the kernel by them, and the live rows if `into_rows`."""
        corrections = self.gathered.take()
        standing = [correction for correction in corrections if not self._guarded.was_undone(correction.learned_at)]
        clicks = sum(int(correction.request.clicks.sum()) for correction in corrections)
        if standing:
            batch, learned_at = corrected_examples(standing, self._space)
            try:
                self._guarded.learner.correct(batch, learned_at)
            except Exception as error:  # noqa: BLE001 - as when learning: it would raise again after every restart
                self._skipped["unlearnable"] += clicks
                log.error("group %s: late clicks cannot be learned (%r) and are left out", self._group, error)
                return
            self.counts["corrected"] += len(batch)
            clicks -= len(batch)
        self._skipped["unlearned_click"] += clicks
        if into_rows:  # rows keep undone examples, weighted as they were counted
            self._rows.corrected([correction for correction in corrections if is_counted(correction.weight.mean())])

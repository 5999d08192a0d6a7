"""Records what became of a micro-batch: in the closed requests, the live rows, and the counts of the next kernel."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np

from model.gate.guarded import GuardedBatch
from streaming.group.kernel_publisher import KernelPublisher
from streaming.group.learned import Learned
from streaming.group.live_rows import GroupRows
from streaming.join.closed_index import ClosedIndex
from streaming.join.join import LabelledRequest
from streaming.kernel_log.closed import NOT_LEARNED

log = logging.getLogger(__name__)


class BatchRecorder:
    """Records requests in the order in which they closed. `skipped` counts items that were not learned, by reason."""

    def __init__(
        self, group: str, closed: ClosedIndex, rows: GroupRows, publisher: KernelPublisher, skipped: Counter[str]
    ) -> None:
        self._group, self._closed, self._rows, self._publisher, self._skipped = group, closed, rows, publisher, skipped

    def record(self, batch: GuardedBatch[LabelledRequest], *, into_rows: bool) -> Learned | None:
        """Records a micro-batch that the gate has decided about; None if nothing of it was learned."""
        self._mark(batch)
        if batch.error is not None:
            log.error(
                "group %s: a micro-batch cannot be learned (%r) and is left out: the requests at offsets %s",
                self._group, batch.error, ", ".join(str(request.offset) for request in batch.requests[:20]),
            )  # fmt: skip
        if batch.batch is None or batch.request is None or batch.report is None:
            return None
        if into_rows:
            self._rows.learned(batch.counted)
        self._publisher.learned(batch.batch)
        return Learned(batch.batch, batch.request, batch.report, None)

    def _mark(self, batch: GuardedBatch[LabelledRequest]) -> None:
        """Notes of each request when and with which weights it was learned: a late click corrects only what was."""
        if batch.learned.all() and (batch.weight >= 1.0).all():  # most micro-batches
            self._closed.learned(len(batch.requests), batch.learned_at)
            return
        sizes = [len(request.impression.items) for request in batch.requests]
        weights = np.split(batch.weight, np.cumsum(sizes)[:-1])
        for size, is_learned, weight in zip(sizes, batch.learned.tolist(), weights, strict=True):
            learned_at = batch.learned_at if is_learned else NOT_LEARNED
            weighs = is_learned and bool((weight < 1.0).any())
            self._closed.learned(1, learned_at, weight.tobytes() if weighs else b"")
            if not is_learned:
                self._skipped["set_aside" if batch.error is None else "unlearnable"] += size

    def skip(self, requests: Sequence[LabelledRequest]) -> None:
        """Records requests that closed while learning was stopped; late clicks for them are not learned either."""
        self._skipped["learning_stopped"] += sum(len(request.impression.items) for request in requests)
        self._closed.learned(len(requests), NOT_LEARNED)

"""The live rows of a group: those of clicks, and those of conversions for a backbone that has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from features.live.features import LiveFeatures
from features.live.layout import LiveRow
from features.live.tasks import split_by_task
from streaming.group.batches import corrected_outcomes, outcomes
from streaming.group.conversion_head import ConversionHead
from streaming.group.corrections import Correction
from streaming.join.join import LabelledRequest


class GroupRows:
    """Updates the rows of both tasks by the same requests; `head` is None for a backbone of clicks alone."""

    def __init__(self, live: LiveFeatures, head: ConversionHead | None) -> None:
        self.live, self._head = live, head
        self.included = 0
        """The rows were restored with all records before this offset, which the learner may not have reached yet."""

    def learned(self, requests: Sequence[LabelledRequest]) -> None:
        """Counts learned requests. Only after learning, because the kernel learns with the rows that were served."""
        self.live.update(outcomes(requests))
        if self._head is not None:
            self._head.clicked(requests)

    def corrected(self, corrections: Sequence[Correction]) -> None:
        """Counts late clicks of requests that are counted already."""
        self.live.correct(corrected_outcomes(corrections))
        if self._head is not None:
            self._head.clicked([correction.request for correction in corrections])

    def take_changed(self) -> list[LiveRow]:
        """Rows touched since the last call, and tombstones."""
        return [*self.live.take_changed(), *([] if self._head is None else self._head.take_changed())]

    def all(self) -> list[LiveRow]:
        """Every row."""
        return [*self.live.rows(), *([] if self._head is None else self._head.rows())]

    def restore(self, rows: Iterable[LiveRow], included: int = 0) -> None:
        """Restores rows that contain all records before offset `included`; without a `head` only those of clicks."""
        clicks, conversions = split_by_task(rows)
        self.live.restore(clicks)
        if self._head is not None:
            self._head.live.restore(conversions)
        self.included = included

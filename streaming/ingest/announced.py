"""The announced drift of the partitions that this member owns, as a metric."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

import msgspec

from streaming.drift import DriftBoard, Key
from streaming.events import DriftEvent
from streaming.monitoring import metrics

log = logging.getLogger(__name__)


class Announced:
    """The boards of one member; `keep_s` is how long what never ends counts as at work, seconds."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._boards: dict[int, DriftBoard] = {}
        self._shown: set[Key] = set()

    def own(self, partitions: Collection[int], stored: Callable[[int], str]) -> None:
        """Lets the boards of other partitions go and reads those of new ones from `stored`, their offsets' metadata."""
        for lost in self._boards.keys() - set(partitions):
            del self._boards[lost]
        for new in set(partitions) - self._boards.keys():
            self._boards[new] = _board(new, stored(new))

    def take(self, partition: int, event: DriftEvent) -> None:
        """Takes one announcement in."""
        log.info("drift: %s (%s) %s", event.name, event.kind, event.phase)
        if partition in self._boards:  # else it went to another member meanwhile, which reads the record again
            self._boards[partition].take(event)

    def metadata(self, partition: int) -> str:
        """What belongs beside the partition's offset."""
        board = self._boards.get(partition)
        return board.packed() if board is not None else ""

    def show(self, now: float) -> None:
        """Sets the metric at wall-clock time `now`; a series that no board holds any more goes."""
        found: dict[Key, bool] = {}
        for board in self._boards.values():
            for key, at_work in board.at_work(now - self._keep_s).items():
                found[key] = found.get(key, False) or at_work
        for name, kind in self._shown - found.keys():
            metrics.DRIFT_ANNOUNCED.remove(name, kind)
        for (name, kind), at_work in found.items():
            metrics.DRIFT_ANNOUNCED.labels(name=name, kind=kind).set(at_work)
        self._shown = set(found)


def _board(partition: int, text: str) -> DriftBoard:
    try:
        return DriftBoard.unpacked(text)
    except msgspec.MsgspecError as error:
        log.warning("partition %d: the metadata of its offset is not ours (%s); no drift is known", partition, error)
        return DriftBoard()

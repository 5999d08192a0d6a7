"""The checkpoints of a group's learner, to which its gate returns after harm: each is written once, and read back."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from model.container import ContainerError
from model.gate.gate import LearnerCheckpoint
from model.gate.guarded import GuardedLearner
from streaming.join.join import LabelledRequest

log = logging.getLogger(__name__)


class Checkpoints:
    """Knows which of the gate's checkpoints have been written. A snapshot refers to them by number, 0 for none."""

    def __init__(self, group: str, guarded: GuardedLearner[LabelledRequest]) -> None:
        self._group, self._guarded = group, guarded
        self._written = 0

    @property
    def numbers(self) -> tuple[int, int]:
        """Numbers of the gate's good checkpoint and of the one that may become it."""
        gate = self._guarded.gate
        return _number(gate.good), _number(gate.next_good)

    def take(self) -> list[LearnerCheckpoint]:
        """Checkpoints made since the last call; they are written with the next snapshot."""
        gate = self._guarded.gate
        fresh = [kept for kept in (gate.good, gate.next_good) if kept is not None and kept.number > self._written]
        self._written = max([self._written, *(kept.number for kept in fresh)])
        return fresh

    def restore(self, kept: Sequence[LearnerCheckpoint], good: int, next_good: int) -> None:
        """Gives the gate back the checkpoints of these numbers. One that is missing or unusable is logged."""
        gate = self._guarded.gate
        gate.good, gate.next_good = self._find(kept, good), self._find(kept, next_good)
        self._written = max(good, next_good)

    def _find(self, kept: Sequence[LearnerCheckpoint], number: int) -> LearnerCheckpoint | None:
        """The checkpoint of this number; None, with a line in the log, if it is missing or the learner refuses it."""
        found = next((state for state in kept if state.number == number), None)
        if found is None:
            if number:
                log.error(
                    "group %s: the checkpoint %d is missing: what is undone goes further back", self._group, number
                )
            return None
        try:
            self._guarded.learner.check(found.learner)
        except ContainerError as error:
            log.error("group %s: the checkpoint %d cannot be used: %s", self._group, number, error)
            return None
        return found


def _number(checkpoint: LearnerCheckpoint | None) -> int:
    return 0 if checkpoint is None else checkpoint.number

"""Checkpoints of the learner, to which it may return, in the `kernels` topic."""

from __future__ import annotations

from collections.abc import Mapping

from model.gate.gate import LearnerCheckpoint
from streaming.kernel_log.keys import CHECKPOINTS, good_key
from streaming.kernel_log.rows import StateRecord

_NUMBER_BYTES = 8


def encode_checkpoint(group: str, checkpoint: LearnerCheckpoint) -> StateRecord:
    """A checkpoint as a record: its number, then the learner's snapshot."""
    number = checkpoint.number.to_bytes(_NUMBER_BYTES, "little")
    return StateRecord(good_key(group, checkpoint.number), number + checkpoint.learner)


def stored_checkpoints(group: str, values: Mapping[bytes | None, bytes | None]) -> list[LearnerCheckpoint]:
    """The checkpoints of a group, from the newest value of each key; they are checked when one is used."""
    records = (values.get(good_key(group, slot)) for slot in range(CHECKPOINTS))
    return [
        LearnerCheckpoint(int.from_bytes(record[:_NUMBER_BYTES], "little"), record[_NUMBER_BYTES:])
        for record in records
        if record is not None
    ]

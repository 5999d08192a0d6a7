"""States to which the learner may return, in the `kernels` topic."""

from __future__ import annotations

from collections.abc import Mapping

from model.gate.gate import KeptState
from streaming.kernel_log.keys import KEPT_STATES, good_key
from streaming.kernel_log.rows import StateRecord

_NUMBER_BYTES = 8


def encode_kept(group: str, state: KeptState) -> StateRecord:
    """A kept state as a record: its number, then the learner's snapshot."""
    return StateRecord(good_key(group, state.number), state.number.to_bytes(_NUMBER_BYTES, "little") + state.learner)


def stored_kept(group: str, values: Mapping[bytes | None, bytes | None]) -> list[KeptState]:
    """The kept states of a group, from the newest value of each key; they are checked when one is used."""
    records = (values.get(good_key(group, slot)) for slot in range(KEPT_STATES))
    return [
        KeptState(int.from_bytes(record[:_NUMBER_BYTES], "little"), record[_NUMBER_BYTES:])
        for record in records
        if record is not None
    ]

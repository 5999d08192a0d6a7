"""What a recovery cannot find again is counted whole."""

from __future__ import annotations

import msgspec
import numpy as np

from streaming.events import ServedImpression
from streaming.kernel_log.join_state import RequestRef, WaitingBatch
from streaming.processor.recovery import Recovery
from tests.streaming.processor.tiny import machine, traffic

SHOWN = [record for record in traffic(5) if isinstance(record, ServedImpression)]


def _ref(offset: int) -> RequestRef:
    none = np.zeros(len(SHOWN[offset].items), dtype=np.bool_)
    return RequestRef.of(offset, none, none)


def _batch(*offsets: int) -> WaitingBatch:
    weight = np.ones(sum(len(SHOWN[offset].items) for offset in offsets))
    return WaitingBatch([_ref(offset) for offset in offsets], weight.tobytes(), bytes(len(offsets)))


def test_a_micro_batch_with_a_missing_request_is_lost_and_all_its_requests_are_counted() -> None:
    group = machine()
    waiting, pending = [_batch(0, 1, 2), _batch(3)], [_ref(4)]
    snapshot = msgspec.structs.replace(group.snapshot(), waiting=waiting, pending=pending)
    recovery = Recovery(snapshot, group.join)
    for offset in (1, 2, 3, 4):
        recovery.take(offset, SHOWN[offset], SHOWN[offset].time)
    assert [len(batch.requests) for batch in recovery.rebuild_waiting()] == [1]
    assert recovery.missing == 3

"""What a recovery cannot find again is counted whole."""

from __future__ import annotations

import msgspec
import numpy as np

from streaming.events import ServedImpression, Tick, encode_traffic
from streaming.kernel_log.join_state import RequestRef, WaitingBatch
from tests.streaming.group.tiny import FIRST_ROWS, machine, traffic

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
    now = SHOWN[4].time
    snapshot = msgspec.structs.replace(
        group.snapshot(), next_offset=5, waiting=waiting, pending=pending, pending_since=now
    )
    group.restore(snapshot, FIRST_ROWS, {})
    for offset in (1, 2, 3, 4):
        group.feed(offset, encode_traffic(SHOWN[offset]), SHOWN[offset].time)
    group.feed(5, encode_traffic(Tick(now)), now)
    assert [[request.offset for request in batch.requests] for batch in group.guarded.gate.waiting] == [[3]]
    assert group.dropped["lost_in_recovery"] == 3

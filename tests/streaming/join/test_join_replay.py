"""The join of any records: each request is closed once, and a restored join continues as if nothing had happened."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.config import JoinConfig
from streaming.events import Progress, Tick, Traffic
from streaming.join.join import Join
from streaming.kernel_log.closed import ClosedSegment, encode_closed, stored_segments
from streaming.kernel_log.join_state import JoinState
from tests.streaming.join.joined import click, impression, labels

STEPS = st.lists(
    st.tuples(st.sampled_from("iffpt"), st.integers(0, 12), st.floats(0, 3), st.sampled_from("abz")), max_size=80
)


def build(steps: list[tuple[str, int, float, str]]) -> list[tuple[Traffic, float]]:
    """Records and their append times: out of order, doubled, late, ahead, with an ingest that lags."""
    now = 0.0
    records: list[tuple[Traffic, float]] = []
    shown: dict[int, float] = {}
    for kind, request, ahead, item in steps:
        now += ahead
        time = now + 3 - 2 * (request % 5)
        if kind == "i":
            record: Traffic = impression(f"r{request}", shown.setdefault(request, time))
        elif kind == "f":
            record = click(f"r{request}", item, time, "conversion" if request == 7 else "click")
        else:
            record = Progress({request % 2: now - request}, 2) if kind == "p" else Tick(now)
        records.append((record, now))
    return [*records, (Progress({0: 1e6, 1: 1e6}, 2), 1e6), (Tick(1e6), 1e6)]


SMALL = JoinConfig(window_s=4, lateness_s=1, horizon_s=8, progress_timeout_s=5, conversion_window_s=6)
TIGHT = SMALL.model_copy(update={"max_bytes": 7_000, "feedback_bytes": 1_500, "horizon_bytes": 1_500})


def fed(join: Join, records: Sequence[tuple[Traffic, float]], begin: int, end: int) -> list[object]:
    """Everything the join returns for the records from `begin` to `end`; every third closed request is learned."""
    given: list[object] = []
    for offset in range(begin, end):
        joined = join.feed(offset, *records[offset])
        given += [(closed.offset, labels(closed), closed.impression.time) for closed in joined.closed]
        if joined.late is not None:
            given.append((joined.late.request.offset, joined.late.item_id, joined.late.request.learned_at))
        if offset % 3 == 0:
            join.closed.learned(10**6, offset)
    return given


@given(STEPS)
@settings(max_examples=150)
def test_every_request_is_closed_at_most_once(steps: list[tuple[str, int, float, str]]) -> None:
    closed = fed(Join(SMALL), records := build(steps), 0, len(records))
    requests = [given[0] for given in closed if isinstance(given, tuple) and isinstance(given[1], dict)]
    names = [records[offset][0] for offset in requests]
    assert len({name.request_id for name in names if not isinstance(name, Tick | Progress)}) == len(requests)


@pytest.mark.parametrize("config", [SMALL, TIGHT])
@given(STEPS, st.data())
@settings(max_examples=150)
def test_a_restored_join_continues_identically_even_when_full(
    config: JoinConfig, steps: list[tuple[str, int, float, str]], data: st.DataObject
) -> None:
    records = build(steps)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=3)))
    whole, ours, begin = Join(config), Join(config), 0
    state: dict[bytes | None, bytes | None] = {}
    for cut in [*cuts, len(records)]:
        assert fed(ours, records, begin, cut) == fed(whole, records, begin, cut)
        begin = cut
        ours.closed.learned(10**6, cut)
        whole.closed.learned(10**6, cut)
        state |= {record.key: record.value for record in encode_closed("g", ours.closed.cut())}
        ours = restored(config, ours.state(), stored_segments("g", state), records)
        whole.closed.cut()
    assert ours.state() == whole.state()


def restored(
    config: JoinConfig, state: JoinState, segments: dict[int, ClosedSegment], records: Sequence[tuple[Traffic, float]]
) -> Join:
    """A join that takes its state from bytes and its open requests from the log."""
    join = Join(config)
    join.restore(state, segments)
    known = {ref.offset: ref for ref in state.labelled}
    for offset in state.open_offsets:
        record, at = records[offset]
        assert not isinstance(record, Tick | Progress)
        join.reopen(offset, record, at, known.get(offset))  # type: ignore[arg-type]
    return join

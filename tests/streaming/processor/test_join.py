"""What the join promises: labels by event time, true however feedback travels, the same on every replay."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.config import JoinConfig
from streaming.events import Progress, Tick, Traffic
from streaming.kernel_log.closed import ClosedSegment, encode_closed, stored_segments
from streaming.kernel_log.join_state import JoinState
from streaming.processor.join import Join
from tests.streaming.processor.joined import CONFIG, Played, Stamped, click, impression, labels, play, read


def test_a_click_inside_the_window_is_a_positive_and_the_rest_are_negatives() -> None:
    assert play([impression("r", 0), click("r", "b", 5), Tick(11)]).labels == [{"a": False, "b": True}]


def test_nothing_closes_before_the_watermark_has_passed_the_window() -> None:
    played = play([impression("r", 0), Tick(10.9)])
    assert played.closed == []
    assert len(played.join.open) == 1


def test_feedback_before_its_impression_is_buffered() -> None:
    assert play([click("r", "a", 1), impression("r", 0), Tick(11)]).labels == [{"a": True, "b": False}]


def test_several_events_before_their_impression_are_buffered_together() -> None:
    early: list[Stamped] = [click("r", "a", 0), click("r", "b", 15), Tick(22)]
    assert play([*early, impression("r", 8), Tick(30)]).labels == [{"a": True, "b": True}]


def test_a_conversion_is_not_a_click() -> None:
    (closed,) = play([impression("r", 0), click("r", "a", 1, "conversion"), Tick(11)]).closed
    assert closed.conversions.tolist() == [True, False]
    assert not closed.clicks.any()


UNUSABLE: list[tuple[Sequence[Traffic], str]] = [
    ([impression("r", 0), impression("r", 0)], "duplicate"),
    ([impression("r", 0), Tick(20), impression("r", 0)], "duplicate"),
    ([impression("r", 0), Tick(20), impression("r", 15)], "duplicate"),
    ([impression("r", 0), click("r", "a", 1), click("r", "a", 2)], "duplicate"),
    ([click("r", "a", 1), click("r", "a", 2), impression("r", 0)], "duplicate"),
    ([Tick(30), impression("r", 5)], "late_impression"),
    ([impression("r", 0), Tick(20), click("r", "a", 101)], "late_feedback"),
    ([Tick(100), click("r", "a", 5)], "late_feedback"),
    ([impression("r", 0), click("r", "a", 51, "conversion"), Tick(30)], "late_feedback"),
    ([click("r", "a", 0), Tick(22)], "orphan_feedback"),
    ([impression("r", 0), click("r", "never shown", 1), Tick(20)], "unshown_item"),
]


@pytest.mark.parametrize(("records", "reason"), UNUSABLE)
def test_unusable_records_are_counted_by_reason(records: Sequence[Traffic], reason: str) -> None:
    assert play(records).join.dropped == {reason: 1}


def test_a_duplicate_of_a_closed_request_is_neither_learned_twice_nor_a_correction() -> None:
    records: list[Traffic] = [impression("r", 0), click("r", "a", 1), Tick(12)]
    assert len(play([*records, *records]).closed) == 1


def test_a_delay_is_counted_from_the_impression_and_never_negative() -> None:
    played = play([impression("r", 10), click("r", "a", 12.5), click("r", "b", 3)])
    assert played.join.delays.take() == [("click", 2.5), ("click", 0.0)]


# --- clocks ---

FUTURE: list[Stamped] = [
    impression("other", 59),
    impression("other", 3_600),
    impression("other", 86_400),
    Tick(1e15),
    click("nobody", "x", 59),
    click("nobody", "x", 1e15),
    click("r7", "a", 3_600),
]


@pytest.mark.parametrize("ahead", FUTURE)
def test_a_time_ahead_of_the_broker_affects_no_other_request(ahead: Stamped) -> None:
    played = Played()
    for now in range(120):
        played.feed(read(now), at=now)
        played.feed(impression(f"r{now}", now), at=now)
        if now % 20 == 0:
            played.feed(ahead, at=now)
        played.feed(click(f"r{now}", "a", now + 0.5), at=now + 0.5)
    played.feed(read(200), at=200)
    played.feed(Tick(200), at=200)
    own = [labels(c) for c in played.closed if c.impression.request_id.startswith("r")]
    assert own == [{"a": True, "b": False}] * 120


def test_a_clock_set_back_a_day_affects_no_other_request() -> None:
    played = Played()
    day = 86_400.0
    for now in range(60):
        at = day + now
        played.feed(read(at), at=at)
        played.feed(impression(f"back{now}", at if now < 30 else at - day), at=at)
        played.feed(impression(f"r{now}", at), at=at)
    played.feed(read(2 * day), at=2 * day)
    played.feed(Tick(2 * day), at=2 * day)
    assert sum(c.impression.request_id.startswith("r") for c in played.closed) == 60
    assert played.join.dropped == {"late_impression": 30}


def test_an_impression_ahead_of_the_broker_gets_its_append_time() -> None:
    played = Played()
    played.feed(impression("r", 3_600), at=100)
    played.feed(read(112), at=112)
    played.feed(Tick(112), at=112)
    assert [closed.impression.time for closed in played.closed] == [100]
    assert played.join.ahead == 1


def test_a_click_stamped_before_its_impression_or_ahead_of_the_broker_still_counts() -> None:
    played = Played()
    played.feed(impression("r", 100), at=100)
    played.feed(click("r", "a", 5), at=101)
    played.feed(click("r", "b", 1e9), at=102)
    played.feed(read(200), at=200)
    played.feed(Tick(200), at=200)
    assert played.labels == [{"a": True, "b": True}]


def test_an_impression_after_its_window_is_labelled_by_buffered_feedback() -> None:
    played = play([click("slow", "b", 3), impression("other", 12), Tick(14), impression("slow", 1)])
    assert played.labels == [{"a": False, "b": True}]
    assert played.closed[0].impression.request_id == "slow"


# --- how far ingest has read ---


def test_a_window_closes_only_when_ingest_has_read_every_partition_up_to_its_end() -> None:
    played = Played()
    played.feed(impression("r", 0))
    played.feed(Tick(50))
    played.feed(Progress({0: 50.0}, 2), at=50)
    assert played.closed == [], "the other partition may hold its click"
    played.feed(Progress({1: 10.9}, 2), at=50)
    assert played.closed == []
    played.feed(click("r", "a", 9), at=51)
    played.feed(Progress({1: 11.0}, 2), at=51)
    assert played.labels == [{"a": True, "b": False}]


def test_clicks_delayed_by_a_broker_outage_decide_their_labels() -> None:
    """Every sender finds back at a time of its own: impressions at 21, clicks at 24."""
    played = Played(Join(JoinConfig(window_s=1, lateness_s=0.2)))
    shown = [float(second) for second in range(20)]
    for second in shown:
        played.feed(impression(f"r{second:.0f}", second), at=21)
    for now in (22.0, 23.0, 24.0):
        played.feed(Tick(now), at=now)
        played.feed(read(now), at=now)
    for second in shown:
        played.feed(click(f"r{second:.0f}", "a", second + 0.5), at=24.1)
    played.feed(Tick(30), at=30)
    played.feed(read(30), at=30)
    assert played.labels == [{"a": True, "b": False}] * 20
    assert played.late == []


def test_a_replayed_old_log_waits_for_no_later_clicks() -> None:
    played = Played(Join(JoinConfig(window_s=1, lateness_s=0.2)))
    played.feed(impression("r", 0), at=1e6)
    played.feed(click("r", "a", 0.5), at=1e6)
    played.feed(Tick(30), at=1e6)
    played.feed(read(1e6), at=1e6)
    assert played.labels == [{"a": True, "b": False}]


def test_progress_ahead_of_the_broker_is_ignored() -> None:
    played = Played()
    played.feed(impression("r", 0), at=0)
    played.feed(Tick(50), at=5)
    played.feed(Progress({0: 1e9}, 1), at=5)
    assert played.closed == []


def test_no_click_becomes_a_negative_however_long_ingest_stalls() -> None:
    played = Played()
    stopped, back = 30, 230
    waiting: list[Stamped] = []
    for now in range(300):
        played.feed(impression(f"r{now}", now), at=now)
        waiting.append(click(f"r{now}", "a", now))
        if not stopped <= now < back:
            for feedback in waiting:
                played.feed(feedback, at=now)
            waiting = []
            played.feed(read(now), at=now)
    played.feed(read(400), at=400)
    played.feed(Tick(400), at=400)
    assert all(label == {"a": True, "b": False} for label in played.labels)
    given_up = played.join.dropped["feedback_unread"]
    assert 0 < given_up < back - stopped
    assert len(played.closed) == 300 - given_up


def test_a_dropped_request_does_not_return_without_its_clicks() -> None:
    played = Played()
    played.feed(impression("r", 0), at=0)
    played.feed(click("r", "a", 1), at=1)
    played.feed(Tick(200), at=200)
    assert played.join.dropped == {"feedback_unread": 1}
    played.feed(impression("r", 0), at=201)
    played.feed(read(300), at=300)
    played.feed(Tick(300), at=300)
    assert played.closed == []


def test_a_system_idle_for_long_drops_no_request() -> None:
    played = play([impression("r", 0), Tick(12)])
    played.feed(impression("s", 90_000), at=90_000)
    played.feed(Tick(90_020), at=90_020)
    played.feed(read(90_020), at=90_020)
    assert len(played.closed) == 2
    assert not played.join.dropped


# --- late clicks ---


def test_a_click_after_its_window_is_a_late_click_until_the_horizon() -> None:
    played = play([impression("r", 0), Tick(12), click("r", "b", 30), Tick(120), click("r", "a", 60)])
    assert [(late.request.request_id, late.item_id) for late in played.late] == [("r", "b")]
    assert played.join.dropped == {"late_feedback": 1}, "the horizon is over"


def test_a_click_after_its_window_counts_while_the_request_is_open() -> None:
    assert play([impression("r", 0), click("r", "a", 10.5), Tick(30)]).labels == [{"a": True, "b": False}]


def test_without_a_horizon_a_click_after_its_window_is_too_late() -> None:
    config = CONFIG.model_copy(update={"horizon_s": 0})
    behind: list[list[Traffic]] = [
        [impression("r", 0), click("r", "a", 10.5), Tick(30)],
        [impression("r", 0), Tick(11), click("r", "a", 5)],
    ]
    for records in behind:
        played = play(records, config)
        assert played.labels == [{"a": False, "b": False}]
        assert played.join.dropped == {"late_feedback": 1}
        assert not played.late


# --- bounds ---


def test_open_requests_use_bounded_bytes_and_the_oldest_is_evicted_first() -> None:
    config = CONFIG.model_copy(update={"max_bytes": 100_000})
    played = play([impression(f"r{i}", i / 100) for i in range(150)], config)
    assert played.join.open.bytes <= 100_000
    assert played.join.dropped["evicted"] == 150 - len(played.join.open) > 50
    assert played.join.state().open_offsets == list(range(2 * (150 - len(played.join.open)) + 1, 300, 2))


def test_an_impression_larger_than_the_memory_limit_evicts_nothing() -> None:
    config = CONFIG.model_copy(update={"max_bytes": 100_000})
    played = play([impression("r", 0), impression("large", 1, [f"i{k}" for k in range(2_000)]), Tick(12)], config)
    assert [closed.impression.request_id for closed in played.closed] == ["r"]
    assert played.join.dropped == {"evicted": 1}


def test_forged_ids_evict_no_request_use_little_memory_and_do_not_extend_the_re_read() -> None:
    played = Played()
    for now in range(5):
        played.feed(impression(f"r{now}", now), at=now)
    tracemalloc.start()
    for made_up in range(100_000):
        played.join.feed(played.offset + made_up, click(f"made-up-{made_up}", "x", 5), 5)
        played.join.feed(played.offset + made_up, click("one", f"item-{made_up}", 5), 5)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 2 * CONFIG.feedback_bytes
    assert len(played.join.open) == 5
    assert played.join.state().open_from == 0
    played.feed(read(100), at=100)
    played.feed(Tick(100), at=100)
    assert len(played.closed) == 5
    assert played.join.state().open_offsets == []


def test_feedback_on_unshown_items_uses_no_memory() -> None:
    played = play([impression("r", 0)])
    before = len(played.join.state().labelled)
    for item in range(1_000):
        played.feed(click("r", f"item-{item}", 1))
    assert len(played.join.state().labelled) == before
    assert played.join.dropped["unshown_item"] == 1_000


@pytest.mark.parametrize("items", [1, 10, 200])
def test_the_counted_memory_of_open_requests_is_an_upper_bound(items: int) -> None:
    names = [f"item-{k}" for k in range(items)]
    tracemalloc.start()
    played = play([impression(f"request-{k}", 1.0, [*map("".join, zip(names))]) for k in range(300)])
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(played.join.open) == 300
    assert used <= played.join.open.bytes


# --- replay ---

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

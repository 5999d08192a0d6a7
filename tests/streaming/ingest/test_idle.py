"""When event time is moved on: the rule, without a broker."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from streaming.ingest.idle import IdleClock, IdleRule, Tail

RULE = IdleRule(interval_s=0.5, bound_s=7.0, grace_s=2.0, gap_s=2.0)


@dataclass
class Partition:
    """A partition of `traffic` and a clock that looks at it."""

    clock: IdleClock = field(default_factory=lambda: IdleClock(RULE))
    records: list[float] = field(default_factory=list)
    ticks: list[float] = field(default_factory=list)
    reached: float = float("-inf")
    end: int = 0
    now: float = 1_000.0
    wall_ahead: float = 0.0

    def write(self, *times: float) -> None:
        self.records.extend(times)
        self.reached = max(self.reached, *times)
        self.end += len(times)

    def watch(self, seconds: float, step: float = 0.25) -> list[float]:
        before = len(self.ticks)
        for _ in range(round(seconds / step)):
            self.now += step
            if self.clock.look(self.end, self.now):
                self.clock.show(Tail(max(self.records), self.reached) if self.records else None)
            time = self.clock.due(self.now, self.now + self.wall_ahead)
            if time is not None:
                self.clock.wrote(time, self.end, self.now)
                self.end += 1
                self.ticks.append(time)
                self.reached = max(self.reached, time)
        return self.ticks[before:]


def test_an_empty_partition_gets_no_tick() -> None:
    assert Partition().watch(60) == []


def test_ticks_start_after_the_interval_follow_the_clock_and_end_at_the_bound() -> None:
    partition = Partition()
    partition.watch(5)
    partition.write(partition.now)
    last = partition.now
    ticks = partition.watch(60)
    assert last < ticks[0] <= last + 1.0
    assert ticks[-1] == last + RULE.bound_s
    assert all(0 < later - earlier <= 1.0 for earlier, later in itertools.pairwise(ticks))


def test_continuous_traffic_gets_no_tick() -> None:
    partition = Partition()
    partition.watch(5)
    for _ in range(50):
        partition.write(partition.now)
        assert partition.watch(0.25) == []


def test_new_traffic_stops_ticks_and_restarts_the_interval() -> None:
    partition = Partition()
    partition.write(partition.now)
    assert partition.watch(20)
    partition.write(partition.now)
    last = partition.now
    assert partition.watch(0.25) == []
    assert partition.watch(20)[-1] == last + RULE.bound_s


def test_replayed_old_events_get_ticks_in_their_own_event_time() -> None:
    partition = Partition()
    partition.write(10.0)
    ticks = partition.watch(20)
    assert 10.0 < ticks[0] < 14.0 and ticks[-1] == 10.0 + RULE.bound_s


def test_unobserved_time_is_not_counted_and_writers_get_a_grace_period() -> None:
    partition = Partition()
    partition.watch(5)
    partition.write(partition.now)
    last = partition.now
    partition.watch(0.25)
    partition.now += 20.0
    assert partition.watch(2.25) == []
    (first, *_) = partition.watch(5)
    assert first <= last + 3.0


def test_events_from_the_future_get_ticks_only_once_the_clock_has_reached_them() -> None:
    partition = Partition()
    partition.watch(5)
    partition.write(partition.now + 30.0)
    ahead = partition.now + 30.0
    assert partition.watch(29) == []
    assert partition.watch(20)[-1] == ahead + RULE.bound_s


def test_a_new_clock_continues_from_existing_ticks_and_writes_none_after_the_last() -> None:
    partition = Partition()
    partition.write(partition.now)
    first = partition.watch(6)
    partition.clock = IdleClock(RULE)
    second = partition.watch(20)
    assert second and second[0] > first[-1] and second[-1] == partition.records[0] + RULE.bound_s
    partition.clock = IdleClock(RULE)
    assert partition.watch(20) == []


def test_a_tick_overtaken_by_traffic_restarts_the_interval() -> None:
    clock = IdleClock(RULE)
    for step in range(20):
        if clock.look(1, step * 0.25):
            clock.show(Tail(100.0, 100.0))
    due = clock.due(4.75, 1e9)
    assert due is not None
    clock.wrote(due, 2, 4.75)  # somebody wrote record 1 first
    assert clock.due(5.25, 1e9) is not None
    assert not clock.look(3, 5.25)
    assert clock.due(5.25, 1e9) is None


def test_records_routed_by_this_process_count_even_if_the_partition_end_is_older() -> None:
    clock = IdleClock(RULE)
    clock.routed(500.0)
    for step in range(20):
        if clock.look(5, step * 0.25):
            clock.show(Tail(100.0, 100.0))
    due = clock.due(4.75, 1e9)
    assert due is not None and due > 500.0


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(-2, 2)), min_size=1, max_size=30))
def test_ticks_increase_and_claim_no_more_time_than_has_passed(
    steps: list[tuple[float, float]],
) -> None:
    partition = Partition()
    partition.watch(5)
    for pause, skew in steps:
        partition.write(partition.now + skew)
        newest, reached, written = max(partition.records), partition.reached, partition.now
        for tick in partition.watch(pause):
            assert newest < tick <= max(partition.now, newest)
            assert tick <= reached + (partition.now - written) + 1e-6
    assert partition.ticks == sorted(set(partition.ticks))

"""Late clicks: after all corrections a group knows what it would know had they been on time, whatever kills it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.config import LiveConfig
from model.gate.config import GateConfig
from streaming.config import JoinConfig
from streaming.events import Progress, ServedFeedback, ServedImpression, Tick, Traffic, encode_traffic
from streaming.group.machine import GroupMachine
from tests.streaming.group.restarts import Store, same
from tests.streaming.group.tiny import GATE, appended, machine, served

WINDOW = 3.0
JOIN = JoinConfig(window_s=WINDOW, lateness_s=0.5, horizon_s=60, progress_timeout_s=20)


def stream(requests: int, seed: int, late_share: float) -> list[Traffic]:
    """Requests with clicks of which a share comes up to half a minute late, in the order of their append times."""
    random = np.random.default_rng(seed)
    records: list[tuple[float, Traffic]] = []
    time = 1_000.0
    for number in range(requests):
        time += float(random.exponential(0.4))
        items = [f"i{item}" for item in random.choice(30, size=int(random.integers(1, 7)), replace=False)]
        records.append((time, served(f"main.r{number}", time, items, random)))
        for item in items:
            if random.random() < 0.4:
                late = random.random() < late_share
                at = time + (WINDOW + 1 + 25 * random.random() if late else 0.3 * random.random())
                records.append((at, ServedFeedback(f"main.r{number}", item, at)))
    last = max(at for at, _ in records) + 10
    records += [(at, Progress({0: at}, 1)) for at in np.arange(1_000.0, last, 0.7).tolist()]
    records += [(at, Tick(at)) for at in (last, last + 10, last + 20)] + [(last, Progress({0: last + 20}, 1))]
    return [record for _, record in sorted(records, key=lambda one: one[0])]


def run(records: Sequence[Traffic], gate: GateConfig = GATE) -> GroupMachine:
    """All records by a group that evicts no row: one that is gone is not corrected."""
    values = [encode_traffic(record) for record in records]
    group = machine(join=JOIN, live=LiveConfig(), log=values, gate=gate)
    for offset, value in enumerate(values):
        group.feed(offset, value, appended(value))
    return group


def on_time(records: Sequence[Traffic]) -> list[Traffic]:
    """The same stream with every click right behind its impression."""
    clicks = [r for r in records if isinstance(r, ServedFeedback)]
    moved: list[Traffic] = []
    for record in records:
        if isinstance(record, ServedFeedback):
            continue
        moved.append(record)
        if isinstance(record, ServedImpression):
            moved += [
                ServedFeedback(c.request_id, c.item_id, record.time)
                for c in clicks
                if c.request_id == record.request_id
            ]
    return moved


def test_corrected_kernel_and_live_rows_equal_those_of_clicks_on_time() -> None:
    records = stream(150, seed=1, late_share=0.5)
    late, punctual = run(records), run(on_time(records))
    assert late.late_clicks.counts["corrected"] > 50
    assert not late.dropped
    assert_equal_to_rounding(late, punctual)


def test_a_late_click_has_the_weight_of_its_example() -> None:
    records = stream(150, seed=1, late_share=0.5)
    capped = GATE.model_copy(update={"user_share": 0.06, "item_share": 0.02})
    late, punctual = run(records, capped), run(on_time(records), capped)
    weights = [closed.weights(1) for closed in late.join.closed._order]
    assert any(0.5 < one.mean() < 1 for one in weights), "or the test says little"
    assert any(one.mean() < 0.5 for one in weights), "or the test says little"
    assert late.late_clicks.counts["corrected"] > 50
    assert_equal_to_rounding(late, punctual)


def assert_equal_to_rounding(late: GroupMachine, punctual: GroupMachine) -> None:
    assert late.publisher.examples == punctual.publisher.examples
    posteriors = [(group.learner._short.means, group.learner._long.means) for group in (late, punctual)]
    for ours, theirs in zip(posteriors[0], posteriors[1], strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-4, atol=1e-5)
    rows = [{(row.kind, row.key): row for row in group.rows.live.rows()} for group in (late, punctual)]
    assert rows[0].keys() == rows[1].keys()
    for key, row in rows[0].items():
        np.testing.assert_allclose(row.values, rows[1][key].values, rtol=1e-4, atol=1e-4, err_msg=str(key))


def test_a_click_during_the_filling_of_its_micro_batch_changes_the_waiting_label() -> None:
    random = np.random.default_rng(0)
    records: list[Traffic] = [
        served("main.a", 1_000.0, ["x", "y"], random),
        Progress({0: 1_004.0}, 1),
        Tick(1_004.0),
        ServedFeedback("main.a", "y", 1_002.0),
        Tick(1_060.0),
    ]
    values = [encode_traffic(record) for record in records]
    group = machine(join=JOIN)  # no log: the impression is at hand
    learned = [one for offset, value in enumerate(values) for one in group.feed(offset, value, appended(value))]
    assert [one.batch.label.tolist() for one in learned] == [[0.0, 1.0]]
    assert group.late_clicks.counts == {"relabelled": 1}


def test_a_late_click_with_an_expired_impression_is_counted_and_changes_nothing() -> None:
    records = stream(60, seed=2, late_share=0.3)
    values = [encode_traffic(record) for record in records]
    group = machine(join=JOIN, log=[None] * len(values))
    for offset, value in enumerate(values):
        group.feed(offset, value, appended(value))
    assert group.dropped["uncorrectable"] > 5
    assert not group.late_clicks.counts["corrected"]


def test_a_duplicate_late_click_corrects_once() -> None:
    records = stream(80, seed=3, late_share=0.5)
    doubled = [one for record in records for one in ([record] * 2 if isinstance(record, ServedFeedback) else [record])]
    assert rows_of(run(doubled)) == rows_of(run(records))


def rows_of(group: GroupMachine) -> object:
    return {
        (r.kind, r.key): (r.updated_at, r.values.tobytes()) for r in group.rows.live.rows()
    }, group.learner.snapshot()


def chaos(steps: list[tuple[str, int, float]], seed: int) -> list[Traffic]:
    """Requests, clicks and conversions early, late, doubled and for nothing, marks that lag, ticks; about in order."""
    random = np.random.default_rng(seed)
    now, records = 1_000.0, list[Traffic]()
    shown: dict[int, ServedImpression] = {}
    for kind, number, ahead in steps:
        now += ahead
        if kind == "i":
            items = [f"i{item}" for item in random.choice(9, size=1 + number % 4, replace=False)]
            records.append(shown.setdefault(number, served(f"main.r{number}", now - number % 3, items, random)))
        elif kind == "f":
            items = list(shown[number].items) if number in shown else ["i1"]
            records.append(ServedFeedback(f"main.r{number}", items[len(records) % len(items)], now - number % 2))
        elif kind == "c":
            items = list(shown[number].items) if number in shown else ["i1"]
            item = items[len(records) % len(items)]
            records.append(ServedFeedback(f"main.r{number}", item, now - number % 2, "conversion"))
        elif kind == "p":
            records.append(Progress({0: now - number % 8}, 1))
        else:
            records.append(Tick(now))
    return [*records, Progress({0: now + 100}, 1), Tick(now + 100), Tick(now + 200), Tick(now + 300)]


STEPS = st.lists(
    st.tuples(st.sampled_from("iiffffccpt"), st.integers(0, 25), st.floats(0, 1.5)), min_size=20, max_size=150
)
TIGHT = JOIN.model_copy(update={"max_bytes": 9_000, "feedback_bytes": 1_500, "horizon_bytes": 4_000})


@pytest.mark.slow
@pytest.mark.parametrize("join", [JOIN, TIGHT])
@given(STEPS, st.integers(0, 5), st.data())
@settings(max_examples=30, deadline=None)
def test_kills_at_any_record_change_nothing_with_late_duplicate_or_excess_records(
    join: JoinConfig, steps: list[tuple[str, int, float]], seed: int, data: st.DataObject
) -> None:
    values = [encode_traffic(record) for record in chaos(steps, seed)]
    reference = machine(join=join, log=values)
    for offset, value in enumerate(values):
        reference.feed(offset, value, appended(value))
    kills = sorted(data.draw(st.lists(st.integers(0, len(values) - 2), max_size=4, unique=True)))
    commits = data.draw(st.sets(st.integers(0, len(values) - 1), max_size=15))
    store, group, offset = Store(lambda: machine(join=join, log=values)), machine(join=join, log=values), 0
    while offset < len(values):
        group.feed(offset, values[offset], appended(values[offset]))
        if offset in commits and not group.recovering:
            store.commit(group)
        offset += 1
        if kills and offset > kills[0]:
            kills.pop(0)
            group, offset = store.successor()
    assert same(group, reference)

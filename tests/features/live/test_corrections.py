"""Late clicks: after its corrections a live row is that of a stream whose clicks were on time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.live.features import LiveFeatures, LiveRow
from features.live.outcome import RequestOutcome
from tests.features.live.live_parts import CONTENT, config, fresh, outcome, outcomes, quick, read

COUNTS = 2
"""Numbers of examples, with which a row of user, item or domain begins: no label is part of them."""


@dataclass(frozen=True)
class Served:
    """A request with the labels it should have had, and which of its clicks came late."""

    true: RequestOutcome
    late: np.ndarray

    @property
    def learned(self) -> RequestOutcome:
        """As it was taken for when its window closed."""
        click = np.where(self.late, 0.0, self.true.click).astype(np.float32)
        return replace(self.true, click=click, residual=self.true.residual - self.correction.residual)

    @property
    def correction(self) -> RequestOutcome:
        turned = (self.late * self.true.click).astype(np.float32)
        return replace(self.true, click=turned, residual=turned)


@st.composite
def served(draw: st.DrawFn) -> Served:
    one = draw(outcomes())
    n = len(one.items)
    return Served(one, np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))))


def rows_of(live: LiveFeatures) -> dict[tuple[str, str], LiveRow]:
    return {(row.kind, row.key): row for row in live.rows()}


def assert_same_rows(one: LiveFeatures, other: LiveFeatures) -> None:
    first, second = rows_of(one), rows_of(other)
    assert first.keys() == second.keys()
    for key, row in first.items():
        assert row.updated_at == second[key].updated_at
        np.testing.assert_allclose(row.values, second[key].values, rtol=2e-6, atol=2e-6)


def on_time(stream: Sequence[Served]) -> LiveFeatures:
    live = fresh()
    live.update([one.true for one in stream])
    return live


@quick
@given(st.lists(served(), min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_corrected_rows_equal_those_of_clicks_on_time_in_any_order_and_after_any_restore(
    stream: list[Served], dice: random.Random
) -> None:
    live, waiting = fresh(), list[RequestOutcome]()
    for one in stream:
        live.update([one.learned])
        waiting.append(one.correction)
        dice.shuffle(waiting)
        if dice.random() < 0.5:
            many = dice.randint(0, len(waiting))
            live.correct(waiting[:many])
            waiting = waiting[many:]
        if dice.random() < 0.3:
            taken = fresh()
            taken.restore(live.rows())
            live = taken
    live.correct(waiting)
    assert_same_rows(live, on_time(stream))


@quick
@given(st.lists(served(), min_size=1, max_size=8))
def test_values_without_labels_stay_bit_identical(stream: list[Served]) -> None:
    live = fresh()
    live.update([one.learned for one in stream])
    before = rows_of(live)
    live.correct([one.correction for one in stream])
    for (kind, key), row in rows_of(live).items():
        if kind == "history":
            continue
        if kind != "facet":
            assert row.values[:COUNTS].tobytes() == before[kind, key].values[:COUNTS].tobytes()
        begin, width = live.layout.residuals_of(row.kind), live.layout.counters_of(row.kind)
        shown = slice(begin, begin + width)
        assert row.values[shown].tobytes() == before[kind, key].values[shown].tobytes()


def test_an_empty_correction_changes_nothing() -> None:
    live = fresh()
    one = outcome("u", ["i0", "i1"], [0.5, -0.5], 5.0)
    live.update([one])
    before = rows_of(live)
    live.correct([replace(one, click=0 * one.click, residual=0 * one.residual)])
    live.correct([outcome("u", [], [], 5.0)])
    assert all(row.values.tobytes() == before[key].values.tobytes() for key, row in rows_of(live).items())


def test_corrected_rows_are_pushed_and_the_reader_sees_the_click() -> None:
    live = fresh()
    one = Served(outcome("u", ["i0"], [0.75], 5.0), np.array([True]))
    live.update([one.learned])
    live.take_changed()
    before = read(live)
    live.correct([one.correction])
    assert {row.kind for row in live.take_changed()} == {"user", "item", "domain", "facet", "history"}
    assert not np.array_equal(read(live), before)


def test_a_correction_does_not_bring_back_an_evicted_row() -> None:
    live = fresh(config(max_items=1))
    early = Served(outcome("u", ["i0"], [0.5], 1.0), np.array([True]))
    live.update([early.learned])
    live.update([outcome("u", ["i1"], [-0.5], 9.0)])
    live.take_changed()
    live.correct([early.correction])
    assert [row.key for row in live.rows() if row.kind == "item"] == ["i1"]
    assert ("item", "i0") not in {(row.kind, row.key) for row in live.take_changed()}


def test_a_row_recreated_after_eviction_never_has_more_clicks_than_impressions() -> None:
    live = fresh(config(max_items=1))
    early = [Served(outcome("u", ["i0"], [0.5], time), np.array([True])) for time in range(1, 30)]
    live.update([one.learned for one in early])
    live.update([outcome("u", ["i1"], [-0.5], 40.0)])
    live.update([outcome("u", ["i0"], [-0.5], 50.0)])
    live.correct([one.correction for one in early])
    shown, clicked = rows_of(live)["item", "i0"].values[-2:]
    assert clicked <= shown == 1.0
    assert np.isfinite(read(live)).all()


def test_a_correction_with_a_non_finite_number_is_refused_and_changes_nothing() -> None:
    live = fresh()
    one = outcome("u", sorted(CONTENT), [0.5] * len(CONTENT), 5.0)
    live.update([one])
    before = rows_of(live)
    with pytest.raises(ValueError, match="outcome of user 'u'"):
        live.correct([replace(one, residual=np.full(len(CONTENT), np.nan, dtype=np.float32))])
    assert all(row.values.tobytes() == before[key].values.tobytes() for key, row in rows_of(live).items())

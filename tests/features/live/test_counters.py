"""The counters: rates that a plain count gives, nothing where nothing was seen, and no loss by time, order or size."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.live.features import LiveFeatures, LiveRow
from features.live.layout import OVERALL, Crossing, Floats
from features.live.outcome import RequestOutcome
from features.live.table import MAX_COUNT
from model.encoding.domain import DomainSpace
from model.encoding.features import FeatureEncoder
from model.encoding.item_values import ItemValues
from tests.features.live.live_parts import (
    CONTENT,
    CROSSING,
    DOMAINS,
    SLOTS,
    config,
    fresh,
    outcome,
    quick,
    read,
    streams,
    sums,
    through_rows,
)


def counters(live: LiveFeatures, **where: object) -> dict[str, Floats]:
    """Columns of the counters by name, of all items."""
    layout = live.layout
    values = read(live, **where)[:, layout.residual_width :]  # type: ignore[arg-type]
    return dict(zip(layout.counter_names, values.T, strict=True))


def residuals(live: LiveFeatures) -> bytes:
    return read(live)[:, : live.layout.residual_width].tobytes()


# --- against plain Python ---

Key = tuple[str, ...]


def keys_of(item: str, user: str, domain: int) -> Iterable[Key]:
    """All that an example counts for."""
    where = [(facet, value if value in known else "unknown") for facet, known in CROSSING.facets
             for value in [getattr(DOMAINS[domain], facet)]]  # fmt: skip
    rows = [f"{facet}={getattr(DOMAINS[domain], facet)}" for facet, _ in CROSSING.facets]
    slots = [str(value) for value in SLOTS[item].tolist() if value >= 0]
    yield ("all",)
    yield ("item", item)
    yield ("user", user)
    yield from (("user", user, *pair) for pair in where)
    yield from (("user", user, value) for value in slots)
    yield from (("facet", row) for row in rows)
    yield from (("facet", row, value) for row in rows for value in slots)


class Plain:
    """A reference implementation: counts in dictionaries, rates by the formulas of the module's docstring."""

    def __init__(self, stream: Sequence[RequestOutcome]) -> None:
        self.shown: Counter[Key] = Counter()
        self.clicked: Counter[Key] = Counter()
        for one in stream:
            for item, click in zip(one.items, one.click.tolist(), strict=True):
                for key in keys_of(item, one.user_id, DOMAINS.index(one.domain)):
                    self.shown[key] += 1
                    self.clicked[key] += int(click)

    def rate(self, key: Key, parent: float, strength: float) -> float:
        return (self.clicked[key] + strength * parent) / (self.shown[key] + strength)

    def features(self, item: str, user: str, domain: int) -> dict[str, float]:
        def lift(rate: float, parent: float) -> float:
            return math.log(rate / (1 - rate)) - math.log(parent / (1 - parent))

        overall = (self.clicked["all",] + 2) / (self.shown["all",] + 5)
        made = {"rate": math.log(overall / (1 - overall))}
        rates: dict[str, float] = {}
        rows = {facet: f"{facet}={getattr(DOMAINS[domain], facet)}" for facet, _ in CROSSING.facets}
        parts: dict[str, Key] = {"user": ("user", user), "item": ("item", item)}
        parts |= {facet: ("facet", row) for facet, row in rows.items()}
        for name, key in parts.items():
            rates[name] = self.rate(key, overall, 10)
            made[f"{name}_rate"] = lift(rates[name], overall)
            made[f"{name}_count"] = 0.3 * math.log1p(self.shown[key])
        for facet, known in CROSSING.facets:
            value = getattr(DOMAINS[domain], facet)
            key = ("user", user, facet, value if value in known else "unknown")
            made[f"user_{facet}_rate"] = lift(self.rate(key, rates["user"], 10), rates["user"])
        for number, field in enumerate(CROSSING.fields):
            slots = [str(v) for v, f in zip(SLOTS[item].tolist(), CROSSING.field_of_slot, strict=True)
                     if v >= 0 and f == number]  # fmt: skip
            of_user = [lift(self.rate(("user", user, v), rates["user"], 10), rates["user"]) for v in slots]
            made[f"user_{field}_rate"] = float(np.mean(of_user)) if slots else 0.0
            for facet, row in rows.items():
                of_facet = [lift(self.rate(("facet", row, v), rates[facet], 30), rates[facet]) for v in slots]
                made[f"{facet}_{field}_rate"] = float(np.mean(of_facet)) if slots else 0.0
        return made


@quick
@given(streams, st.sampled_from("uvx"), st.sampled_from((0, 1, 2)))
def test_counters_equal_a_plain_count(stream: list[RequestOutcome], user: str, domain: int) -> None:
    live, plain = fresh(), Plain(stream)
    live.update(stream)
    made = counters(live, user=user, domain=domain)
    for number, item in enumerate(sorted(CONTENT)):
        expected = plain.features(item, user, domain)
        assert made.keys() == expected.keys()
        for name, value in expected.items():
            assert made[name][number] == pytest.approx(value, abs=1e-5), (item, name)


def test_without_examples_all_counters_but_the_overall_rate_are_zero() -> None:
    made = counters(fresh())
    assert made.pop("rate").tolist() == pytest.approx([math.log(2 / 3)] * 6)
    assert not np.stack(list(made.values())).any()


def test_a_repeated_value_of_an_item_counts_once() -> None:
    twice = replace(outcome("u", ["i0"], [0.5], 1.0), values=np.array([[0, 3, 3, 3]], dtype=np.int16))
    one, other = fresh(), fresh()
    one.update([twice])
    other.update([outcome("u", ["i0"], [0.5], 1.0)])
    assert read(one).tobytes() == read(other).tobytes()


def test_all_undeclared_facet_values_share_the_row_of_the_unknown_one() -> None:
    live = fresh()
    live.update([outcome("u", ["i0"] * 5, [0.5] * 5, 1.0, domain=2)])
    keys = {row.key for row in live.rows() if row.kind == "facet"}
    assert "region=unknown" in keys
    assert "region=elsewhere" not in keys
    here, there = counters(live, domain=2), counters(live, domain=0)
    assert here["user_region_rate"][0] > 0
    assert here["region_count"][0] > 0
    assert not there["region_count"].any()


def test_without_facets_and_fields_only_item_and_user_counters_remain() -> None:
    plain = Crossing.of(_no_values(), DomainSpace({"scene": ("home",)}))
    live = fresh(crossing=plain)
    assert live.layout.counter_names == ("rate", "user_rate", "user_count", "item_rate", "item_count")
    empty = np.zeros((2, 0), dtype=np.int16)
    live.update([replace(outcome("u", ["i0", "i1"], [0.5, -0.5], 1.0), values=empty)])
    assert {row.kind for row in sums(live)} == {"user", "item", "domain"}


def _no_values() -> ItemValues:
    return ItemValues(FeatureEncoder.fit([], [], user_fields=(), item_fields=(), text_width=2))


def test_a_facet_of_one_declared_value_is_not_crossed() -> None:
    space = DomainSpace({"scene": ("home",), "region": ("north", "south"), "period": ()})
    assert Crossing.of(_no_values(), space).facets == (("region", ("unknown", "north", "south")),)


# --- time, order, size ---


def test_counters_never_decay() -> None:
    live = fresh()
    live.update([outcome("u", ["i0", "i1"], [0.5, -0.5], 0.0)])
    now, late = counters(live, time=0.0), counters(live, time=1e9)
    assert all(np.array_equal(now[name], late[name]) for name in now)


@quick
@given(streams, st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_change_a_bit(stream: list[RequestOutcome], shuffler: random.Random) -> None:
    shuffled = list(stream)
    shuffler.shuffle(shuffled)
    one, other, apart = fresh(), fresh(), fresh()
    one.update(stream)
    other.update(shuffled)
    for request in stream:
        apart.update([request])
    first = counters(one)
    for again in (counters(other), counters(apart)):
        assert all(np.array_equal(first[name], again[name]) for name in first)


@quick
@given(streams)
def test_counters_only_leaves_residuals_unchanged_and_still_counts(stream: list[RequestOutcome]) -> None:
    logged, live = fresh(), fresh()
    logged.update(stream, counters_only=True)
    live.update(stream)
    assert residuals(logged) == residuals(fresh())
    one, other = counters(logged), counters(live)
    assert all(np.array_equal(one[name], other[name]) for name in one)


@quick
@given(streams, streams, st.sampled_from("uvx"), st.sampled_from((0, 1, 2)))
def test_rows_of_log_and_stream_give_a_scorer_identical_features(
    log: list[RequestOutcome], stream: list[RequestOutcome], user: str, domain: int
) -> None:
    live, follower = fresh(), fresh()
    live.update(log, counters_only=True)
    live.update(stream)
    assert through_rows(live, live.rows(), 250.0, user, domain).tobytes() == read(live, 250.0, user, domain).tobytes()
    follower.restore(live.rows())
    assert read(follower, 250.0, user, domain).tobytes() == read(live, 250.0, user, domain).tobytes()


def filled(shown: float, clicked: float) -> LiveFeatures:
    """All rows of one request as if they had been counted so often."""
    live = fresh()
    live.update([outcome("u", ["i0"], [-0.5], 1.0)], counters_only=True)
    rows = []
    for row in sums(live):
        begin, width = live.layout.residuals_of(row.kind), live.layout.counters_of(row.kind)
        values = row.values.copy()
        seen = values[begin : begin + width] > 0
        values[begin : begin + width][seen] = shown
        values[begin + width :][seen] = clicked
        rows.append(LiveRow(row.kind, row.key, row.updated_at, values))
    live.restore(rows)
    return live


def test_a_saturated_counter_is_halved_and_keeps_its_rate() -> None:
    live = filled(MAX_COUNT, MAX_COUNT / 4)
    before = counters(live)
    live.update([outcome("u", ["i0"] * 4, [0.5, -0.5, -0.5, -0.5], 2.0)])
    after = counters(live)
    item = next(row for row in live.rows() if row.kind == "item")
    assert item.values[-2:].tolist() == [(MAX_COUNT + 4) / 2, (MAX_COUNT / 4 + 1) / 2]
    for name, values in before.items():
        if name.endswith("rate"):
            np.testing.assert_allclose(after[name], values, atol=1e-4)


@pytest.mark.parametrize("click", [0.5, -0.5])
def test_rates_stay_between_zero_and_one_however_long_counting_goes_on(click: float) -> None:
    live = filled(MAX_COUNT - 1, (MAX_COUNT - 1) * (click > 0))
    for time in range(40):
        live.update([outcome("u", ["i0"] * 4, [click] * 4, float(time))])
    made = counters(live)
    assert all(np.isfinite(values).all() for values in made.values())
    for row in sums(live):
        width = live.layout.counters_of(row.kind)
        shown, clicked = row.values[-2 * width : -width], row.values[-width:]
        assert (clicked <= shown).all()
        assert shown.max() <= MAX_COUNT


def test_an_evicted_key_reads_as_unknown() -> None:
    live = fresh(config(max_users=1, max_domains=2))
    live.update([outcome("u", ["i0"], [0.5], 1.0)])
    live.update([outcome("v", ["i1"], [0.5], 2.0, domain=1)])
    made = counters(live, user="u")
    assert not made["user_count"].any()
    assert live.evicted["user"] == 1
    assert live.evicted["facet"] >= 1
    tombs = {(row.kind, row.key) for row in live.take_changed() if row.tombstone}
    assert ("user", "u") in tombs and ("facet", "region=zip1") in tombs


def test_rows_have_the_width_of_their_layout() -> None:
    live = fresh()
    live.update([outcome("u", ["i0", "i2"], [0.5, -0.5], 1.0)])
    for row in sums(live):
        assert row.values.shape == (live.layout.width_of(row.kind),)
    keys = {(row.kind, row.key) for row in live.rows()}
    assert {("domain", OVERALL), ("facet", "region=zip1"), ("facet", "period=night")} <= keys

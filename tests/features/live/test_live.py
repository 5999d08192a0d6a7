"""What the live rows promise, whatever comes in; of the features, T (the counters: test_counters)."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.live.features import LiveFeatures, LiveRow
from features.live.layout import Floats, LiveLayout, design_matrix
from features.live.outcome import RequestOutcome
from tests.features.live.live_parts import (
    CONTENT,
    WIDTH,
    asked,
    config,
    content_of,
    fresh,
    layout_of,
    outcome,
    quick,
    read,
    streams,
    through_rows,
)


def assert_close(one: Floats, other: Floats) -> None:
    """Equal but for the rounding of float32 sums."""
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def column(live: LiveFeatures, name: str, **where: Any) -> Floats:
    values: Floats = read(live, **where)[:, live.layout.names.index(name)]
    return values


def test_without_examples_features_are_zero_and_the_deviation_is_the_prior() -> None:
    live = fresh()
    assert not read(live)[:, : live.layout.residual_width - 1].any()
    norm = np.sqrt((design_matrix(content_of(sorted(CONTENT))) ** 2).sum(1) / config().ridge_prior)
    assert column(live, "ridge_deviation") == pytest.approx(4 * norm, rel=1e-5)


def test_a_mean_is_shrunk_by_the_prior_and_decays_at_its_half_life() -> None:
    live = fresh(config(prior_examples=2.0))
    live.update([outcome("u", ["i0", "i0"], [0.5, 0.5], time=0.0)])
    now = column(live, "item_residual_short", time=0.0)
    later = column(live, "item_residual_short", time=10.0)
    assert now[0] == pytest.approx(4 * 1.0 / (2 + 2))
    assert later[0] == pytest.approx(4 * 0.5 / (1 + 2))
    assert now[1:].tolist() == [0.0] * 5
    assert column(live, "item_confidence_long", time=100.0)[0] == pytest.approx(1 / (1 + 2))


def test_the_ridge_is_the_textbook_posterior_with_forgetting() -> None:
    live = fresh(config(ridge_prior=1.5))
    rng = np.random.default_rng(4)
    seen = [(f"i{rng.integers(6)}", float(rng.normal()), float(time)) for time in range(0, 100, 7)]
    for item, error, time in seen:
        live.update([outcome("u", [item], [error], time)])
    design = design_matrix(content_of([item for item, _, _ in seen]))
    weight = np.array([2.0 ** (-(120.0 - time) / 100.0) for _, _, time in seen])
    precision = design.T @ (weight[:, None] * design) + 1.5 * np.eye(WIDTH + 1)
    new = design_matrix(content_of(sorted(CONTENT)))
    mean = new @ np.linalg.solve(precision, design.T @ (weight * np.array([error for _, error, _ in seen])))
    deviation = np.sqrt(np.einsum("ij,jk,ik->i", new, np.linalg.inv(precision), new))
    assert column(live, "ridge_mean", time=120.0) == pytest.approx(4 * mean, abs=1e-4)
    assert column(live, "ridge_deviation", time=120.0) == pytest.approx(4 * deviation, abs=1e-4)


def test_a_clicked_item_lifts_similar_items_for_the_user_and_the_domain_only() -> None:
    live = fresh()
    live.update([outcome("u", ["i0"] * 5, [0.9] * 5, time=0.0)])
    assert column(live, "user_match_long", time=0.0).argmax() == 0
    assert column(live, "domain_match_long", time=0.0)[0] > 0
    assert not column(live, "user_match_long", time=0.0, user="v").any()
    assert not column(live, "domain_match_long", time=0.0, domain=1).any()
    assert column(live, "overall_match_long", time=0.0, domain=1)[0] > 0


@quick
@given(streams)
def test_one_update_equals_several_updates_with_the_same_outcomes(stream: list[RequestOutcome]) -> None:
    together, apart = fresh(), fresh()
    together.update(stream)
    for one in stream:
        apart.update([one])
    assert_close(read(together), read(apart))


@quick
@given(streams, st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter(stream: list[RequestOutcome], shuffler: random.Random) -> None:
    shuffled = list(stream)
    shuffler.shuffle(shuffled)
    one, other = fresh(), fresh()
    one.update(stream)
    other.update(shuffled)
    assert_close(read(one), read(other))


@quick
@given(streams, streams)
def test_a_restored_state_continues_bit_for_bit(before: list[RequestOutcome], after: list[RequestOutcome]) -> None:
    original, restored = fresh(), fresh()
    original.update(before)
    restored.restore(reversed(original.rows()))
    original.take_changed()
    for live in (original, restored):
        live.update(after)
    assert read(original).tobytes() == read(restored).tobytes()
    one, other = ({(r.kind, r.key): r for r in live.take_changed()} for live in (original, restored))
    assert one.keys() == other.keys()
    for key, row in one.items():
        assert row.values.tobytes() == other[key].values.tobytes()
        assert row.updated_at == other[key].updated_at


@quick
@given(streams, st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_changed_rows_alone_rebuild_the_state(stream: list[RequestOutcome], cuts: list[int]) -> None:
    original, follower = fresh(config(max_users=2, max_items=3, max_domains=2)), fresh()
    rest = list(stream)
    for cut in [*cuts, len(rest)]:
        original.update(rest[:cut])
        rest = rest[cut:]
        follower.restore(original.take_changed())
    assert len(follower) == len(original)
    assert read(follower).tobytes() == read(original).tobytes()


@quick
@given(streams, st.sampled_from("uvx"), st.floats(0, 400), st.sampled_from((0, 1)))
def test_the_scorer_computes_identical_features_from_rows(
    stream: list[RequestOutcome], user: str, time: float, domain: int
) -> None:
    live = fresh()
    live.update(stream)
    served = through_rows(live, live.take_changed(), time, user, domain)
    assert served.tobytes() == read(live, time, user, domain).tobytes()
    assert served.dtype == np.float32
    assert served.shape == (len(CONTENT), live.layout.width)


@quick
@given(streams, st.integers(1, 4))
def test_memory_is_bounded_and_the_longest_idle_keys_are_evicted_first(
    stream: list[RequestOutcome], limit: int
) -> None:
    live = fresh(config(max_items=limit, max_users=limit, max_domains=limit))
    known: set[tuple[str, str]] = set()
    for one in stream:
        live.update([one])
        for row in live.take_changed():
            (known.discard if row.tombstone else known.add)((row.kind, row.key))
        rows = live.rows()
        assert {(row.kind, row.key) for row in rows} == known
        for kind in ("item", "user", "domain", "facet"):
            assert sum(row.kind == kind for row in rows) <= limit
    assert np.isfinite(read(live)).all()


def test_eviction_drops_the_longest_idle_leaves_a_tombstone_and_is_counted() -> None:
    live = fresh(config(max_users=2))
    for time, user in enumerate(["a", "b", "a", "c"]):
        live.update([outcome(user, ["i0"], [0.5], float(time))])
    changed = {row.key: row for row in live.take_changed() if row.kind == "user"}
    assert changed["b"].tombstone
    assert not changed["a"].tombstone
    assert not changed["c"].tombstone
    assert live.evicted["user"] == 1
    live.update([outcome("b", ["i0"], [0.5], 9.0)])
    assert [row.tombstone for row in live.take_changed() if row.key == "b"] == [False, False]


def test_only_what_changed_is_taken_and_only_once() -> None:
    live = fresh()
    live.update([outcome("u", ["i0"], [0.5], 1.0), outcome("v", ["i1"], [0.5], 1.0)])
    live.take_changed()
    assert live.take_changed() == []
    live.update([outcome("v", ["i1"], [0.5], 2.0)])
    assert {row.key for row in live.take_changed() if row.kind in {"user", "item"}} == {"v", "i1"}


def test_taken_rows_do_not_change_afterwards() -> None:
    live = fresh()
    live.update([outcome("u", ["i0"], [0.5], 1.0)])
    row = live.take_changed()[0]
    before = row.values.copy()
    live.update([outcome("u", ["i0"], [0.5], 2.0)])
    assert row.values.tobytes() == before.tobytes()


def test_an_event_older_than_the_row_is_weighted_by_its_age() -> None:
    live = fresh(config(prior_examples=1.0))
    live.update([outcome("u", ["i0"], [0.0], 10.0), outcome("u", ["i0"], [1.0], 0.0)])
    assert column(live, "item_residual_short", time=10.0)[0] == pytest.approx(4 * 0.5 / 2.5)


def test_a_request_before_the_newest_update_reads_the_row_as_it_is() -> None:
    live = fresh()
    live.update([outcome("u", ["i0"], [0.5], 50.0)])
    assert read(live, time=10.0).tobytes() == read(live, time=50.0).tobytes()


def test_the_scale_of_content_vectors_does_not_matter_and_zero_vectors_are_accepted() -> None:
    small, large = fresh(), fresh()
    one = outcome("u", ["i0", "i1"], [0.5, -0.5], 1.0)
    small.update([one])
    large.update([replace(one, content=one.content * 64)])
    np.testing.assert_allclose(read(small), read(large), rtol=1e-5, atol=1e-6)
    nothing = np.zeros((1, WIDTH), dtype=np.float32)
    assert np.isfinite(small.features(2.0, "u", replace(asked(["i0"]), content=nothing), ["i0"])).all()


def test_an_unknown_user_item_and_domain_read_as_without_examples() -> None:
    live = fresh()
    live.update([outcome("u", ["i0"], [0.5], 1.0)])
    values = live.features(2.0, "nobody", asked(["i1"], domain=1), ["nothing"])
    names = live.layout.names
    assert not any(values[0, names.index(f"{part}_residual_long")] for part in ("item", "user", "domain"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("residual", np.array([math.nan], dtype=np.float32), "residual holds a value that is not finite"),
        ("content", np.full((1, WIDTH), math.inf, dtype=np.float32), "content holds a value that is not finite"),
        ("content", np.zeros((1, WIDTH + 1), dtype=np.float32), "content has shape"),
        ("residual", np.zeros(2, dtype=np.float32), "residual has shape"),
        ("click", np.array([math.nan], dtype=np.float32), "click holds a value that is not finite"),
        ("click", np.zeros(2, dtype=np.float32), "click has shape"),
        ("click", np.array([70.0], dtype=np.float32), "click has a value outside 0 to 1"),
        ("click", np.array([-1.0], dtype=np.float32), "click has a value outside 0 to 1"),
        ("values", np.zeros((1, 3), dtype=np.int16), "values has shape"),
        ("values", np.array([[0, 7, -1, -1]], dtype=np.int16), "values has a number outside 0 to 6"),
        ("values", np.array([[-2, 3, -1, -1]], dtype=np.int16), "values has a number outside 0 to 6"),
        ("time", math.nan, "time holds a value that is not finite"),
    ],
)
def test_an_invalid_outcome_is_refused_by_field_name_and_nothing_is_added(field: str, value: Any, message: str) -> None:
    live = fresh()
    changes: dict[str, Any] = {field: value}
    bad = replace(outcome("bad one", ["i0"], [0.5], 1.0), **changes)
    with pytest.raises(ValueError, match=message) as error:
        live.update([outcome("u", ["i0"], [0.5], 1.0), bad])
    assert "bad one" in str(error.value)
    assert len(live) == 0


def test_outcomes_without_items_change_nothing() -> None:
    live = fresh()
    live.update([])
    live.update([outcome("u", [], [], 1.0)])
    assert live.take_changed() == []


def test_rows_of_another_layout_are_refused() -> None:
    live = fresh()
    with pytest.raises(ValueError, match="another content width"):
        live.restore([LiveRow("item", "i0", 1.0, np.zeros(9, dtype=np.float32))])
    with pytest.raises(ValueError, match="another content width"):
        through_rows(live, [LiveRow("user", "u", 1.0, np.zeros(9, dtype=np.float32))], 1.0, "u")
    with pytest.raises(ValueError, match="keeps user, item, domain, facet"):
        live.restore([LiveRow("item_domain", "x", 1.0, np.zeros(4, dtype=np.float32))])  # type: ignore[arg-type]


def test_names_and_widths_follow_the_configuration() -> None:
    layout = layout_of()
    assert layout.width == len(layout.names) == len(set(layout.names))
    assert layout.residual_width == len(layout.residual_names) == 24
    assert layout.names[: layout.residual_width] == layout.residual_names
    assert read(fresh()).shape == (6, layout.width)
    with pytest.raises(ValueError, match="content width is 0"):
        LiveLayout.of(config(), 0, layout.crossing)


def test_half_lives_must_be_positive_and_in_order() -> None:
    for values in ((0.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ValueError, match="half-lives must be positive"):
            config(half_lives_s=values)
    with pytest.raises(ValueError, match=r"(?s)half_lives_s.*finite"):
        config(half_lives_s=(1.0, math.inf))


def test_counts_far_in_the_past_decay_to_zero_without_nan() -> None:
    live = fresh()
    live.update([outcome("u", ["i0"], [0.5], 0.0)])
    assert np.isfinite(read(live, time=1e12)).all()
    live.update([outcome("u", ["i0"], [0.5], 1e12)])
    assert column(live, "item_residual_short", time=1e12)[0] == pytest.approx(4 * 0.5 / (1 + 4))

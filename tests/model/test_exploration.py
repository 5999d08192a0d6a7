"""Exploration: the draw of the first place, and its probability."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.exploration import UNIFORM, Exploration, by_score, drawn_place, propensities, shown_order

KEYS = st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=30).map(
    lambda keys: np.array(sorted(keys, reverse=True), dtype=np.float32)
)
TEMPERATURES = st.floats(1e-300, 1e6)
THREE = np.array([2.0, 1.0, -1.0], dtype=np.float32)


@given(KEYS, TEMPERATURES)
def test_propensities_sum_to_one_and_give_every_item_its_uniform_part(keys: np.ndarray, temperature: float) -> None:
    chances = propensities(keys, temperature)
    assert chances.sum() == pytest.approx(1.0, abs=1e-12)
    assert (chances >= UNIFORM / len(keys) * (1 - 1e-12)).all()
    assert (np.diff(chances) <= 0).all(), "a better key never has a smaller chance"


def test_a_propensity_is_the_mixture_of_softmax_and_uniform() -> None:
    softmax = np.exp(THREE / 0.5) / np.exp(THREE / 0.5).sum()
    np.testing.assert_allclose(propensities(THREE, 0.5), 0.9 * softmax + 0.1 / 3, rtol=1e-6)


def test_equal_keys_have_equal_chances_however_large_they_are() -> None:
    for key in (0.0, -3.0, 1e30, -1e30):
        np.testing.assert_allclose(propensities(np.full(4, key, dtype=np.float32), 1.0), 0.25)


def test_the_share_of_uniform_points_that_draw_a_place_is_its_propensity() -> None:
    chances = propensities(THREE, 1.0)
    points = 20_000
    places = [drawn_place(chances, (number + 0.5) / points) for number in range(points)]
    np.testing.assert_allclose(np.bincount(places) / points, chances, atol=1.0 / points)
    assert (drawn_place(chances, 0.0), drawn_place(chances, 1.0 - 2.0**-53)) == (0, 2)


@given(st.text(max_size=50), KEYS, st.floats(0, 1), TEMPERATURES)
def test_the_same_request_gets_the_same_draw_with_its_own_propensity(
    request_id: str, keys: np.ndarray, share: float, temperature: float
) -> None:
    rule = Exploration(share, temperature)
    sampled, again = (rule.sample(request_id, keys) for _ in range(2))
    assert (sampled is None) == (again is None)
    if sampled is not None and again is not None:
        assert 0 <= sampled.place == again.place < len(keys)
        np.testing.assert_array_equal(sampled.chances, propensities(keys, temperature))


def test_the_share_decides_how_many_requests_explore_and_a_larger_one_keeps_them() -> None:
    ids = [f"main.{number}" for number in range(4_000)]
    few = [Exploration(0.1).sample(one, THREE) for one in ids]
    more = [Exploration(0.3).sample(one, THREE) for one in ids]
    assert sum(one is not None for one in few) == pytest.approx(400, rel=0.15)
    assert sum(one is not None for one in more) == pytest.approx(1_200, rel=0.1)
    assert all(many is not None and many.place == one.place for one, many in zip(few, more, strict=True) if one)
    assert all(Exploration(1.0).sample(one, THREE) is not None for one in ids)
    assert all(Exploration(0.0).sample(one, THREE) is None for one in ids)


def test_whether_a_request_explores_does_not_decide_what_it_draws() -> None:
    drawn = [Exploration(0.3, 1.0).sample(f"main.{number}", THREE) for number in range(8_000)]
    places = np.bincount([one.place for one in drawn if one is not None], minlength=3)
    np.testing.assert_allclose(places / places.sum(), propensities(THREE, 1.0), atol=0.03)


def test_one_item_leaves_nothing_to_draw() -> None:
    assert Exploration(1.0).sample("main.1", THREE[:1]) is None
    assert Exploration(1.0).sample("main.1", THREE[:0]) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_key_that_is_not_finite_has_no_propensity(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        propensities(np.array([1.0, bad], dtype=np.float32), 1.0)


@given(st.integers(1, 30), st.data())
def test_the_order_by_score_is_found_again_from_what_was_shown(n: int, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, n - 1))
    best = np.arange(100, 100 + n)
    shown = shown_order(best, place)
    assert shown[0] == best[place]
    assert sorted(shown) == list(best)
    np.testing.assert_array_equal(shown[by_score(n, place)], best)

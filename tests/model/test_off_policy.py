"""Off-policy estimates: exact on populations in which every draw occurs as often as its probability says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.off_policy import Crowd, play, truths
from model.control_users import BUCKETS
from model.off_policy import MIN_EFFECTIVE, Explored, TargetPolicy, difference, estimate

CHANCES = np.array([0.5, 0.3, 0.2])
"""Of three items, in tenths."""
RATES = np.array([[0.2, 0.7, 0.4], [0.6, 0.1, 0.9]])
"""Click rates of the items in two contexts, in tenths."""
CHOSEN = (1, 2)
"""What the target policy chooses in each context."""


def population(users: int = 40) -> tuple[Explored, np.ndarray, np.ndarray]:
    """Every draw and every click, as often as their probabilities say; with contexts and items drawn, `(m,)` each."""
    rows = [
        (click, CHANCES[item], context, item)
        for context in range(2)
        for item in range(3)
        for copy in range(round(10 * CHANCES[item]))
        for click in [0.0] * round(10 - 10 * RATES[context, item]) + [1.0] * round(10 * RATES[context, item])
    ]
    click, propensity, context, item = np.tile(np.array(rows), (users, 1)).T
    bucket = np.repeat(np.arange(users), len(rows))
    return Explored(click, propensity, bucket), context.astype(int), item.astype(int)


def choosing(
    chosen: tuple[int, int], contexts: np.ndarray, items: np.ndarray, predictions: np.ndarray = RATES * 0.5
) -> TargetPolicy:
    """A policy without draws, with predictions by context and item; these ones are wrong."""
    choices = np.array(chosen)[contexts]
    chance = (choices == items).astype(float)
    return TargetPolicy(chance, predictions[contexts, items], predictions[contexts, choices], 1.0 / CHANCES[choices])


def test_all_three_estimates_are_exactly_right_over_all_draws_whatever_the_predictions_are() -> None:
    logged, contexts, items = population()
    truth = (RATES[0, CHOSEN[0]] + RATES[1, CHOSEN[1]]) / 2
    for predictions in (RATES * 0.5, np.ones((2, 3)), RATES[::-1]):
        found = estimate(logged, choosing(CHOSEN, contexts, items, predictions))
        assert found.refused is None
        assert found.ips is not None and found.snips is not None and found.dr is not None
        assert (found.ips.value, found.snips.value, found.dr.value) == pytest.approx((truth, truth, truth))


def test_a_policy_that_draws_is_estimated_too() -> None:
    logged, contexts, items = population()
    square = np.full(len(items), float((1 / 9 / CHANCES).sum()))
    uniform = TargetPolicy(np.full(len(items), 1 / 3), RATES[contexts, items], RATES[contexts].mean(axis=1), square)
    found = estimate(logged, uniform)
    assert found.ips is not None and found.dr is not None
    assert (found.ips.value, found.dr.value) == pytest.approx((RATES.mean(), RATES.mean()))


def test_ignoring_the_propensities_would_be_wrong() -> None:
    logged, contexts, items = population()
    same = np.array(CHOSEN)[contexts] == items
    truth = (RATES[0, CHOSEN[0]] + RATES[1, CHOSEN[1]]) / 2
    assert abs(float(logged.click[same].mean()) - truth) > 0.01


def test_what_was_logged_has_weights_of_one_and_its_own_click_rate() -> None:
    logged, _, items = population()
    nothing = np.zeros(len(items))
    found = estimate(logged, TargetPolicy(logged.propensity, nothing, nothing, nothing + 1.0))
    assert (found.effective, found.expected, found.largest) == pytest.approx((len(items), len(items), 1.0))
    for one in (found.ips, found.snips, found.dr):
        assert one is not None and one.value == pytest.approx(float(logged.click.mean()))


def test_a_difference_is_that_of_the_values_and_zero_between_a_policy_and_itself() -> None:
    logged, contexts, items = population()
    one, other = choosing(CHOSEN, contexts, items), choosing((0, 0), contexts, items)
    found = difference(logged, one, other)
    assert found is not None
    assert found.value == pytest.approx((0.7 + 0.9) / 2 - (0.2 + 0.6) / 2)
    same = difference(logged, one, one)
    assert same is not None and (same.low, same.value, same.high) == (0.0, 0.0, 0.0)


def test_repeated_requests_of_the_same_users_do_not_narrow_an_interval() -> None:
    random = np.random.default_rng(0)
    logged, contexts, items = population()
    logged = Explored(logged.click, logged.propensity, random.integers(BUCKETS, size=len(items)))
    again = np.tile(np.arange(len(items)), 4)
    few, many = (
        estimate(
            Explored(logged.click[rows], logged.propensity[rows], logged.bucket[rows]),
            choosing(CHOSEN, contexts[rows], items[rows]),
        ).dr
        for rows in (np.arange(len(items)), again)
    )
    assert few is not None and many is not None
    assert many.high - many.low == pytest.approx(few.high - few.low)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1e-6, 1)), min_size=1, max_size=50))
def test_the_effective_sample_is_at_most_the_number_of_requests_and_never_negative(
    rows: list[tuple[float, float]],
) -> None:
    chance, propensity = np.array(rows).T
    logged = Explored(np.ones(len(rows)), propensity, np.arange(len(rows)))
    found = estimate(logged, TargetPolicy(chance, chance, chance, 1.0 / propensity))
    assert 0 <= found.effective <= len(rows) * (1 + 1e-9)
    assert found.refused is not None and found.ips is None, "fifty requests are never enough"


def test_without_requests_or_support_there_is_no_estimate_and_the_reason_is_given() -> None:
    logged, contexts, items = population()
    none = np.zeros(len(items), dtype=bool)
    assert estimate(logged.select(none), choosing(CHOSEN, contexts, items).select(none)).refused == (
        "there are no explored requests"
    )
    target = choosing(CHOSEN, contexts, items)
    impossible = replace(target, square=np.where(contexts == 0, target.square, np.inf))
    found = estimate(logged, impossible)
    assert found.refused == f"no support: in {(contexts == 1).sum():,} requests it may choose what could not be drawn"
    assert found.ips is None and found.snips is None and found.dr is None
    assert difference(logged, target, impossible) is None


def test_the_expected_effective_sample_does_not_depend_on_what_was_drawn() -> None:
    logged, contexts, items = population()
    target = choosing(CHOSEN, contexts, items)
    found = estimate(logged, target)
    assert found.expected == pytest.approx(found.effective), "in a population with every draw as often as it should be"
    lucky = np.flatnonzero(target.chance > 0)
    assert estimate(logged.select(lucky), target.select(lucky)).expected < len(lucky) * 0.3


def test_a_small_effective_sample_few_clicks_or_few_users_give_no_estimate() -> None:
    logged, contexts, items = population()
    target = choosing(CHOSEN, contexts, items)
    some = np.arange(len(items)) < 3 * MIN_EFFECTIVE
    assert "effective sample" in str(estimate(logged.select(some), target.select(some)).refused)
    clickless = Explored(np.zeros(len(items)), logged.propensity, logged.bucket)
    assert "0 clicks" in str(estimate(clickless, target).refused)
    alone = Explored(logged.click, logged.propensity, logged.bucket % 7)
    assert "fill 7 buckets" in str(estimate(alone, target).refused)


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_propensities_that_do_not_describe_the_draws_are_found_by_the_mean_weight(factor: float) -> None:
    logged, contexts, items = population()
    wrong = Explored(logged.click, logged.propensity * factor, logged.bucket)
    assert "wrong propensities" in str(estimate(wrong, choosing(CHOSEN, contexts, items)).refused)


def test_over_made_up_logs_the_estimates_hold_and_a_replay_without_propensities_does_not() -> None:
    crowd = Crowd("a test", 4_000, 1_500)
    random = np.random.default_rng(7)
    truth = truths(crowd, random)
    rows = [play(crowd, random)[0] for _ in range(20)]
    held: dict[str, list[bool]] = {}
    for row in rows:
        for method, found in row.items():
            aim = truth.target - truth.served if "difference" in method else truth.target
            held.setdefault(method, []).append(found is not None and found.low <= aim <= found.high)
    for method in ("IPS", "SNIPS", "DR", "DR, difference", "experiment, difference"):
        assert sum(held[method]) >= 16, method  # fewer than 16 of 20 have a probability of 0.3 % at 95 % each
    assert sum(held["replay without propensities"]) < 16

"""What an example is worth as evidence where users' examples hang together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.drift.by_user import UserEvidence
from model.gate.scored_examples import Doubles, ScoredExamples


def scored(users: list[str], items: int, label: Doubles | None = None) -> ScoredExamples:
    """A request of `items` examples for each of `users`."""
    count, n = len(users), len(users) * items
    return ScoredExamples(
        np.zeros(n) if label is None else label, np.zeros(n), np.zeros(n), np.repeat(np.arange(count), items), users,
        ["item"] * n, np.zeros((count, 3), dtype=np.int64), np.zeros(count, dtype=np.int64),
    )  # fmt: skip


def told(leaning: float, batches: int = 60, items: int = 40) -> UserEvidence:
    """Who has been told of many users whose own effect on the logit has that standard deviation."""
    rng, evidence = np.random.default_rng(0), UserEvidence()
    for batch in range(batches):
        one = scored([f"{batch}-{number}" for number in range(6)], items)
        key, _ = evidence.weigh(one)
        p = rng.uniform(0.2, 0.8, len(key))
        logit = np.log(p / (1 - p)) + np.repeat(leaning * rng.standard_normal(6), items)
        evidence.see(key, p, (rng.random(len(p)) < 1 / (1 + np.exp(-logit))).astype(np.float64))
    return evidence


@pytest.mark.parametrize("leaning", [0.7, 1.0])
def test_the_estimated_spread_is_that_of_the_users(leaning: float) -> None:
    assert 0.5 * leaning**2 < told(leaning).spread < 1.2 * leaning**2


def test_without_user_effects_every_example_has_full_weight() -> None:
    evidence = told(0.0)
    for _ in range(20):
        _, weight = evidence.weigh(scored(["one"], 50))
        assert (weight == 1.0).all()


def test_the_total_weight_of_one_user_is_bounded_by_the_user_variance() -> None:
    evidence, worth = told(0.8), 0.0
    for _ in range(200):
        worth += float(evidence.weigh(scored(["one"], 10))[1].sum())
    assert worth < 1.1 / (0.16 * evidence.spread)
    assert float(evidence.weigh(scored(["another"], 10))[1].min()) > 0.3


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_the_weight_of_a_user_does_not_depend_on_the_micro_batches(sizes: list[int]) -> None:
    parts, whole = told(0.8, 5), told(0.8, 5)
    apart = sum(float(parts.weigh(scored(["one"], size))[1].sum()) for size in sizes)
    together = float(whole.weigh(scored(["one"], sum(sizes)))[1].sum())
    assert apart == pytest.approx(together, rel=0.05)  # what he brought fades a little meanwhile


def test_user_evidence_continues_from_its_state() -> None:
    first, second = told(0.6, 10), UserEvidence()
    second.load(first.state())
    one = scored(["0-1", "new", "9-3"], 7)
    assert np.array_equal(first.weigh(one)[1], second.weigh(one)[1])
    assert first.spread == second.spread

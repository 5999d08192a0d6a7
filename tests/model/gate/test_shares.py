"""No user and no item has more than its share of the weight."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.gate.decayed_mass import KEPT
from model.gate.shares import ShareCap

Brought = Sequence[tuple[str, int]]
"""Names of a micro-batch, each with the number of examples that it brings."""
batches = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 400)), min_size=1, max_size=8)


def weigh(cap: ShareCap, brought: Brought) -> NDArray[np.float64]:
    return cap.weigh([name for name, _ in brought], np.array([examples for _, examples in brought]))


def test_a_user_with_nearly_all_traffic_is_weighted_down_to_the_share() -> None:
    cap, mass = ShareCap(0.05), {"one": 0.0, "others": 0.0}
    for turn in range(4_000):
        name = "one" if turn % 10 else f"u{turn % 997}"
        [weight] = weigh(cap, [(name, 10)])
        if turn > 2_000:
            mass["one" if name == "one" else "others"] += 10 * weight
    assert mass["one"] / sum(mass.values()) < 0.08
    assert mass["others"] > 0.99 * 2_000


def test_users_within_their_share_have_weight_one() -> None:
    cap = ShareCap(0.05)
    assert all(weigh(cap, [(f"u{turn % 97}", 10)]) == 1 for turn in range(3_000))


@given(batches, st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_examples_of_a_name_weigh_the_same_in_any_order_of_a_micro_batch(
    batch: list[tuple[str, int]], random: Random
) -> None:
    caps = [ShareCap(0.1), ShareCap(0.1)]
    shuffled = random.sample(batch, len(batch))
    for _ in range(3):
        first, second = (
            {name: weight for (name, _), weight in zip(order, weigh(cap, order), strict=True)}
            for cap, order in zip(caps, (batch, shuffled), strict=True)
        )
        assert first == pytest.approx(second, rel=1e-9, abs=1e-9)


@given(st.lists(batches, min_size=1, max_size=8))
@settings(max_examples=50)
def test_a_micro_batch_adds_no_more_than_what_is_left_of_each_budget(played: list[list[tuple[str, int]]]) -> None:
    cap = ShareCap(0.1)
    for batch in played:
        weight, mass = weigh(cap, batch), cap.state()
        assert ((weight >= 0) & (weight <= 1)).all()
        largest = max(stored for _, stored in mass["stored"])
        assert largest <= 0.1 * max(1_000.0 * mass["unit"], mass["whole"]) * (1 + 1e-9)


def test_memory_is_bounded_for_any_number_of_keys() -> None:
    cap = ShareCap(0.05)
    weigh(cap, [(f"u{number}", 1) for number in range(10_000)])
    assert len(cap.state()["stored"]) <= 2 * KEPT


@given(st.lists(batches, min_size=1, max_size=8), st.integers(0, 8))
@settings(max_examples=50)
def test_a_restored_cap_continues_identically(played: list[list[tuple[str, int]]], cut: int) -> None:
    one, other = ShareCap(0.1), ShareCap(0.1)
    for batch in played[:cut]:
        weigh(one, batch)
    other.load(one.state())
    for batch in played[cut:]:
        assert weigh(one, batch).tolist() == weigh(other, batch).tolist()

"""Nobody teaches more than a share."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from model.gate.shares import KEYS, ShareCap


def test_a_user_with_nearly_all_traffic_is_weighted_down_to_the_share() -> None:
    cap, mass = ShareCap(0.05), {"one": 0.0, "others": 0.0}
    for turn in range(4_000):
        name = "one" if turn % 10 else f"u{turn % 997}"
        [weight] = cap.weigh([(name, 10)])
        if turn > 2_000:
            mass["one" if name == "one" else "others"] += 10 * weight
    assert mass["one"] / sum(mass.values()) < 0.08
    assert mass["others"] > 0.99 * 2_000


def test_users_within_their_share_have_weight_one() -> None:
    cap = ShareCap(0.05)
    assert all(weight == 1 for turn in range(3_000) for weight in cap.weigh([(f"u{turn % 97}", 10)]))


def test_memory_is_bounded_for_any_number_of_keys() -> None:
    cap = ShareCap(0.05)
    cap.weigh((f"u{number}", 1) for number in range(10_000))
    assert len(cap.state()["mass"]) <= 2 * KEYS


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 400)), min_size=1, max_size=40), st.integers(0, 40))
@settings(max_examples=50)
def test_a_restored_cap_continues_identically(keys: list[tuple[str, int]], cut: int) -> None:
    one, other = ShareCap(0.1), ShareCap(0.1)
    one.weigh(keys[:cut])
    other.load(one.state())
    assert one.weigh(keys[cut:]) == other.weigh(keys[cut:])

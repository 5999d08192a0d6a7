"""The anytime-valid test: what it promises without harm, and that it finds harm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.gate.evidence import CLIP, HarmEvidence


def fed(differences: np.ndarray, parts: list[int]) -> float:
    """Evidence after one comparison in one stratum, taken in parts that end at `parts`."""
    evidence = HarmEvidence(1, 1)
    for part in np.split(differences, parts):
        evidence.update(part[:, None], np.ones((1, len(part)), dtype=np.bool_))
    return float(evidence.value[0, 0])


@given(
    st.lists(st.floats(-2, 2), min_size=1, max_size=30),
    st.lists(st.integers(0, 30), max_size=4),
)
@settings(max_examples=60)
def test_evidence_does_not_depend_on_the_batch_sizes(values: list[float], parts: list[int]) -> None:
    differences = np.array(values)
    assert fed(differences, sorted(parts)) == pytest.approx(fed(differences, []), rel=1e-9)


def test_a_batch_of_any_size_gives_finite_evidence() -> None:
    assert fed(np.full(5_000, CLIP), []) == pytest.approx(1e12)
    assert fed(np.full(5_000, -CLIP), []) == pytest.approx(fed(np.full(5_000, -CLIP), [700, 1_400]), rel=1e-9)


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=12))
def test_evidence_is_the_sum_of_bets_begun_at_every_request(values: list[float]) -> None:
    from model.gate.evidence import BETS

    clipped = np.clip(np.array(values), -CLIP, CLIP)
    by_hand = np.mean([sum(np.prod(1 + bet * clipped[start:]) for start in range(len(values))) for bet in BETS])
    assert fed(np.array(values), []) == pytest.approx(by_hand, rel=1e-9)


def test_without_harm_the_mean_of_the_evidence_is_the_number_of_requests() -> None:
    random = np.random.default_rng(0)
    evidence = HarmEvidence(20_000, 1)
    evidence.update(0.3 * random.choice([-1.0, 1.0], size=(20, 20_000)), np.ones((1, 20), dtype=np.bool_))
    assert evidence.value.mean() == pytest.approx(20, rel=0.05)


def test_steady_harm_is_detected_and_its_absence_is_not() -> None:
    random = np.random.default_rng(1)
    noise = 0.1 * random.normal(size=4_000)
    assert fed(noise + 0.02, []) > 1e8
    assert fed(noise - 0.005, []) < 1e5


def test_only_requests_of_a_stratum_change_its_evidence() -> None:
    evidence = HarmEvidence(1, 2)
    inside = np.zeros((2, 50), dtype=np.bool_)
    inside[0], inside[1, ::2] = True, True
    difference = np.where(np.arange(50) % 2, 0.4, -0.4)[:, None]
    evidence.update(difference, inside)
    alone = HarmEvidence(1, 1)
    alone.update(difference[::2], np.ones((1, 25), dtype=np.bool_))
    assert evidence.value[1, 0] == pytest.approx(alone.value[0, 0])
    assert evidence.value[0, 0] != pytest.approx(alone.value[0, 0])


def test_evidence_of_a_stratum_stays_while_it_has_no_requests() -> None:
    evidence = HarmEvidence(1, 3)
    evidence.update(np.full((20, 1), 0.3), np.ones((3, 20), dtype=np.bool_))
    before = evidence.value.copy()
    assert (before > 0).all()
    evidence.update(np.full((5, 1), 0.3), np.array([[True], [False], [True]]).repeat(5, axis=1))
    assert evidence.value[1] == before[1]
    assert (evidence.value[[0, 2]] > before[[0, 2]]).all()


def test_a_request_of_zero_weight_is_no_evidence() -> None:
    evidence = HarmEvidence(1, 1)
    evidence.update(np.full((30, 1), 0.5), np.ones((1, 30), dtype=np.bool_), np.zeros(30))
    assert evidence.value[0, 0] == 30  # as many bets as requests, each where it began

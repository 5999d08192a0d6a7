"""Trust: the arm that predicts gains weight, and one that was wrong for long comes back quickly."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.kernel.trust import Trust


def updated(trust: Trust, right: int, batches: int, n: int = 128) -> Tensor:
    """Arms of which `right` alone predicts the labels a little."""
    label = (torch.arange(n) % 2).double()
    logits = torch.zeros(len(trust.weights), n, dtype=torch.float64)
    logits[right] = 2 * label - 1
    for _ in range(batches):
        trust.update(logits, label, torch.ones(n, dtype=torch.float64))
    return trust.weights


def test_all_arms_are_equal_at_first() -> None:
    assert Trust(3, 400, 0.3).weights.tolist() == [1 / 3] * 3


def test_the_arm_that_predicts_gains_weight() -> None:
    weights = updated(Trust(3, 400, 0.3), right=1, batches=10)
    assert int(weights.argmax()) == 1
    assert weights[1] > 0.8


def test_an_arm_that_was_wrong_for_long_comes_back_within_a_few_hundred_examples() -> None:
    trust = Trust(2, 400, 0.3)
    updated(trust, right=0, batches=500)
    assert updated(trust, right=1, batches=3)[1] > 0.8


def test_without_evidence_trust_goes_back_to_equal_shares_by_its_half_life() -> None:
    trust = Trust(2, 400, 0.3)
    trust.weights = torch.tensor([0.9, 0.1], dtype=torch.float64)
    silent = torch.zeros(400, dtype=torch.float64)
    trust.update(torch.zeros(2, 400, dtype=torch.float64), silent, silent)
    torch.testing.assert_close(trust.weights, torch.tensor([0.7, 0.3], dtype=torch.float64))


@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.booleans()), min_size=1, max_size=60))
def test_weights_stay_a_mixture_whatever_the_arms_say(rows: list[tuple[float, float, bool]]) -> None:
    trust = Trust(2, 400, 0.3)
    logits = torch.tensor([[a, b] for a, b, _ in rows], dtype=torch.float64).T
    label = torch.tensor([c for *_, c in rows], dtype=torch.float64)
    for _ in range(3):
        trust.update(logits, label, torch.ones(len(rows), dtype=torch.float64))
    assert abs(float(trust.weights.sum()) - 1) < 1e-9
    assert float(trust.weights.min()) > 0

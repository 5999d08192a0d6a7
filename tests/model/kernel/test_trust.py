"""Trust: the arm that predicts gains weight, a wrong one recovers later, and evidence moves the resting weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.config import LearnerConfig
from model.kernel.trust import ARMS, DIRECT, FROZEN, LONG, SHORT, Trust


def make(**changes: Any) -> Trust:
    return Trust(LearnerConfig(**changes))


def updated(trust: Trust, right: tuple[int, ...], batches: int, n: int = 32) -> Tensor:
    """Arms of which those in `right` alone predict the labels a little."""
    label = (torch.arange(n) % 2).float()
    logits = torch.zeros(len(ARMS), n)
    logits[list(right)] = 2 * label - 1
    for _ in range(batches):
        trust.update(logits, label, torch.ones(n))
    return trust.weights


def test_at_first_the_frozen_model_has_its_share_and_matching_half_of_the_rest() -> None:
    assert make().matching == 0.5
    trust = make(frozen_share=0.2)
    both = 0.8 * (0.01 + 0.7) / 2 / 2
    assert trust.weights.tolist() == pytest.approx([0.2, 0.8 - 2 * both, both, both])


@pytest.mark.parametrize("arm", range(len(ARMS)))
def test_the_arm_that_predicts_gains_weight(arm: int) -> None:
    weights = updated(make(), (arm,), 10)
    assert int(weights.argmax()) == arm
    assert weights[arm] > 0.6


def test_an_arm_that_was_wrong_for_long_recovers_within_a_few_hundred_examples() -> None:
    trust = make()
    updated(trust, (LONG,), 500)
    assert updated(trust, (FROZEN,), 10)[FROZEN] > 0.6


@pytest.mark.parametrize("frozen_share", [0.05, 1 / 3])
def test_the_resting_share_of_the_frozen_model_has_a_lower_bound(frozen_share: float) -> None:
    trust = make(frozen_share=frozen_share)
    updated(trust, (LONG, SHORT), 200)
    silent = torch.zeros(128)
    for _ in range(60):
        trust.update(torch.zeros(len(ARMS), 128), silent, silent)
    assert float(trust.weights[FROZEN]) == pytest.approx(frozen_share, rel=1e-6)


def test_without_evidence_the_difference_of_the_arms_halves_in_one_half_life() -> None:
    trust = make(trust_half_life=400)
    resting = trust.weights.clone()
    trust.weights = torch.tensor([0.7, 0.1, 0.1, 0.1], dtype=torch.float64)
    silent = torch.zeros(400)
    trust.update(torch.zeros(len(ARMS), 400), silent, silent)
    expected = (torch.tensor([0.7, 0.1, 0.1, 0.1], dtype=torch.float64) + resting) / 2
    torch.testing.assert_close(trust.weights, expected)


def test_evidence_moves_the_resting_shares_to_the_model_that_predicts_better() -> None:
    better, worse = make(), make()
    updated(better, (SHORT, LONG), 50)
    updated(worse, (DIRECT,), 50)
    assert better.evidence > 0 > worse.evidence
    assert better.matching == pytest.approx(1.0, abs=1e-3)
    assert worse.matching == pytest.approx(0.0, abs=1e-3)
    silent = torch.zeros(2_000)
    for trust in (better, worse):
        trust.update(torch.zeros(len(ARMS), 2_000), silent, silent)
    assert float(better.weights[DIRECT]) == pytest.approx(0.9 * 0.3, abs=1e-3), "direct features keep three tenths"
    assert better.weights[LONG] > 0.3
    assert worse.weights[LONG] < 0.02
    assert worse.weights[DIRECT] > 0.8


def test_evidence_is_the_difference_of_the_log_likelihoods_in_nats() -> None:
    trust = make()
    label = torch.tensor([1.0, 0.0, 1.0])
    logits = torch.randn(len(ARMS), 3, generator=torch.Generator().manual_seed(0))
    weight = torch.tensor([1.0, 2.0, 0.5])
    trust.update(logits, label, weight)
    probability = torch.sigmoid(logits.double())
    likelihood = (weight * torch.log(torch.where(label == 1, probability, 1 - probability))).sum(1)
    assert trust.evidence == pytest.approx(float(likelihood[LONG] - likelihood[DIRECT]), rel=1e-5)


def test_evidence_is_forgotten_at_its_half_life() -> None:
    trust = make(evidence_half_life=1_000)
    updated(trust, (LONG,), 10)
    before, silent = trust.evidence, torch.zeros(1_000)
    trust.update(torch.zeros(len(ARMS), 1_000), silent, silent)
    assert trust.evidence == pytest.approx(before / 2)


def test_evidence_of_a_million_examples_is_reversed_within_a_few_half_lives() -> None:
    trust = make(evidence_half_life=2_000)
    updated(trust, (LONG,), 5_000)
    updated(trust, (DIRECT,), 200)
    assert trust.matching < 0.5


@given(st.lists(st.tuples(*[st.floats(-1e30, 1e30)] * 4, st.booleans()), min_size=1, max_size=40))
def test_weights_stay_a_mixture_for_any_arms(rows: list[tuple[float, float, float, float, bool]]) -> None:
    trust = make()
    logits = torch.tensor([row[:4] for row in rows], dtype=torch.float64).T
    label = torch.tensor([float(row[4]) for row in rows])
    for _ in range(3):
        trust.update(logits, label, torch.ones(len(rows)))
    assert abs(float(trust.weights.sum()) - 1) < 1e-9
    assert float(trust.weights.min()) > 0
    assert 0 <= trust.matching <= 1


def test_a_loaded_trust_continues_bit_for_bit() -> None:
    original, loaded = make(), make()
    updated(original, (SHORT,), 7)
    loaded.load({name: tensor.clone() for name, tensor in original.state().items()})
    assert torch.equal(updated(original, (LONG,), 5), updated(loaded, (LONG,), 5))
    assert original.evidence == loaded.evidence


@given(st.integers(129, 700), st.integers(0, 2**31))
def test_a_large_micro_batch_moves_weights_and_evidence_as_its_parts_do(n: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(ARMS), n, generator=random)
    label, weight = (torch.rand(n, generator=random) < 0.3).float(), torch.rand(n, generator=random)
    whole, parts = make(), make()
    whole.update(logits, label, weight)
    for begin in range(0, n, 128):
        part = slice(begin, begin + 128)
        parts.update(logits[:, part], label[part], weight[part])
    torch.testing.assert_close(whole.weights, parts.weights)
    assert whole.evidence == pytest.approx(parts.evidence)

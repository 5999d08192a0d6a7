"""The closed-form path: the ridge solution where the loss is flat, forgetting by half-life, no matter of batching."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lab.adapters.closed_path import ClosedPath

FOREVER = 1e18


def examples(n: int, width: int = 5, seed: int = 0, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, offsets, labels that follow the first feature, and weights of one."""
    generator = torch.Generator().manual_seed(seed)
    features = scale * torch.randn(n, width, generator=generator)
    offset = torch.randn(n, generator=generator)
    label = (features[:, 0] > 0).float()
    return features, offset, label, torch.ones(n)


def test_the_first_batch_gives_the_ridge_solution_of_its_quadratic() -> None:
    path = ClosedPath(5, FOREVER, prior=5.0)
    features, offset, label, weight = examples(400)
    path.learn(features, offset, label, weight)
    score = torch.sigmoid(offset)
    precision = 5.0 * torch.eye(5) + features.T @ (features * (score * (1 - score))[:, None])
    torch.testing.assert_close(path.precision, precision)
    torch.testing.assert_close(path.mean, torch.linalg.solve(precision, features.T @ (label - score)))


def test_the_order_of_batches_hardly_matters_without_forgetting() -> None:
    batches = [examples(64, seed=seed) for seed in range(6)]
    means = []
    for order in (batches, batches[::-1]):
        path = ClosedPath(5, FOREVER, prior=30.0)
        for batch in order:
            path.learn(*batch)
        means.append(path.mean)
    assert float((means[0] - means[1]).abs().max()) < 0.1 * float(means[0].abs().max())


def test_after_one_half_life_past_examples_have_half_their_weight() -> None:
    path = ClosedPath(5, half_life=100.0, prior=1.0)
    features, offset, label, weight = examples(200)
    path.learn(features, offset, label, weight)
    learned = path.precision - torch.eye(5)
    silent = torch.zeros(100)
    path.learn(torch.zeros(100, 5), silent, silent, silent)
    torch.testing.assert_close(path.precision - torch.eye(5), learned / 2)


def test_weights_without_new_evidence_decay_to_zero() -> None:
    path = ClosedPath(5, half_life=300.0, prior=30.0)
    features, offset, label, weight = examples(500)
    path.learn(features, offset, label, weight)
    learned = float(path.mean.abs().max())
    for _ in range(30):
        path.learn(features, offset, label, 0 * weight)
    assert float(path.mean.abs().max()) < 0.05 * learned


@settings(max_examples=40)
@given(
    scale=st.floats(1e-3, 5), n=st.integers(1, 64), half_life=st.floats(10, 1e6), seed=st.integers(0, 99)
)  # fmt: skip
def test_the_posterior_is_finite_for_any_bounded_features_and_any_labels(
    scale: float, n: int, half_life: float, seed: int
) -> None:
    path = ClosedPath(5, half_life, prior=30.0)
    for turn in range(8):
        features, offset, label, weight = examples(n, seed=seed + turn, scale=scale)
        path.learn(features, offset, label if turn % 2 else 1 - label, weight)
    assert bool(torch.isfinite(path.mean).all())
    assert float(torch.linalg.eigvalsh(path.precision).min()) >= 29.0


@pytest.mark.parametrize("parts", [2, 8])
def test_small_batches_learn_the_same_as_one_large_batch(parts: int) -> None:
    features, offset, label, weight = examples(512)
    whole, pieces = ClosedPath(5, 3_000.0, prior=30.0), ClosedPath(5, 3_000.0, prior=30.0)
    whole.learn(features, offset, label, weight)
    for part in torch.arange(512).chunk(parts):
        pieces.learn(features[part], offset[part], label[part], weight[part])
    torch.testing.assert_close(pieces.logit(features), whole.logit(features), rtol=0.35, atol=0.35)
    assert torch.corrcoef(torch.stack([pieces.mean, whole.mean]))[0, 1] > 0.99


def test_a_loaded_posterior_continues_bit_for_bit() -> None:
    path, other = ClosedPath(5, 300.0, prior=30.0), ClosedPath(5, 300.0, prior=30.0)
    path.learn(*examples(64))
    other.load({name: tensor.clone() for name, tensor in path.state().items()})
    for seed in range(1, 6):
        path.learn(*examples(64, seed=seed))
        other.load(other.state())
        other.learn(*examples(64, seed=seed))
    assert torch.equal(path.mean, other.mean)
    assert all(torch.equal(tensor, other.state()[name]) for name, tensor in path.state().items())

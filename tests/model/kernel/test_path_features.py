"""What the closed-form path sees: one scale for all, the same projections for everyone, products that match."""

from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.kernel.closed_path import ClosedPath
from model.kernel.path_features import PathFeatures

N, D, K = 128, 6, 3


def inputs(seed: int = 0, n: int = N) -> tuple[Tensor, Tensor]:
    """A representation off centre, and live features of a smaller scale."""
    generator = torch.Generator().manual_seed(seed)
    return 2 + torch.randn(n, D, generator=generator), 0.2 * torch.randn(n, K, generator=generator)


def observed(products: int = 8, live: int = K) -> PathFeatures:
    features = PathFeatures(D, live, products)
    features.observe(*inputs())
    return features


@pytest.mark.parametrize("products", [0, 8])
def test_before_anything_is_met_there_is_only_the_constant(products: int) -> None:
    seen = PathFeatures(D, K, products)(*inputs())
    assert seen.shape == (N, D + K + products + 1)
    assert not seen[:, :-1].any()
    assert bool((seen[:, -1] == 1).all())


def test_the_first_examples_give_centre_and_scale_and_later_ones_change_nothing() -> None:
    features = observed()
    linear = features(*inputs())[:, : D + K]
    torch.testing.assert_close(linear.mean(0), torch.zeros(D + K), atol=1e-5, rtol=0)
    x, live = inputs()
    both = torch.cat([x, live], dim=1)
    torch.testing.assert_close(linear, 0.5 * (both - both.mean(0)) / (both.std(0, correction=0) + 0.3))
    features.observe(*inputs(seed=1))
    assert torch.equal(features(*inputs())[:, : D + K], linear)


@pytest.mark.parametrize("size", [1, 10, 64])
def test_small_first_batches_are_put_together_before_anything_is_scaled_by_them(size: int) -> None:
    features, (x, live) = PathFeatures(D, K, 8), inputs()
    for begin in range(0, N, size):
        assert bool(features.scale.any()) == (begin >= 100)
        features.observe(x[begin : begin + size], live[begin : begin + size])
    together = PathFeatures(D, K, 8)
    count = -(-100 // size) * size
    together.observe(x[:count], live[:count])
    torch.testing.assert_close(features(x, live), together(x, live))


def test_live_features_that_are_all_zero_at_first_are_heard_later() -> None:
    features = PathFeatures(D, K, 0)
    x, live = inputs()
    features.observe(x, torch.zeros_like(live))
    assert float(features(x, live)[:, D:-1].std()) > 0.1


def test_without_live_features_they_are_not_looked_at() -> None:
    features = observed(live=0)
    x, live = inputs()
    assert features.width == D + 8 + 1
    assert torch.equal(features(x, live), features(x, torch.full_like(live, 7.0)))


def test_products_estimate_the_square_of_the_inner_product() -> None:
    features = PathFeatures(D, K, 40_000)
    features.scale.fill_(1.0)
    x, live = inputs()
    x = x - 2
    product = features(x, live)[:, D + K : -1] / 0.2
    both = torch.cat([x, live], dim=1)
    expected = (both @ both.T / (D + K)) ** 2
    torch.testing.assert_close(product @ product.T / 40_000, expected, atol=0.1, rtol=0.2)


def test_projections_are_the_same_for_everyone_for_ever() -> None:
    features = PathFeatures(64, 24, 128)
    digest = hashlib.sha256(features.left.numpy().tobytes() + features.right.numpy().tobytes()).hexdigest()
    assert digest.startswith("fc03a12ac52cbe84")
    assert not torch.equal(features.left, features.right)
    assert set(features.left.flatten().tolist()) == {float(sign * torch.tensor(88.0) ** -0.5) for sign in (-1, 1)}


@settings(max_examples=50)
@given(scale=st.floats(0, 6e4), seed=st.integers(0, 99))
def test_features_are_bounded_whatever_comes(scale: float, seed: int) -> None:
    x, live = inputs(seed)
    seen = observed()(scale * x, scale * live)
    assert bool(torch.isfinite(seen).all())
    assert float(seen.abs().max()) <= 2.5


def test_products_let_the_path_learn_what_no_straight_line_says() -> None:
    errors = {}
    for products in (0, 64):
        features = PathFeatures(D, K, products)
        path = ClosedPath(features.width, 1e6, prior=1.0)
        for seed in range(30):
            x, live = inputs(seed)
            features.observe(x, live)
            label = ((x[:, 0] - 2) * live[:, 0] > 0).float()
            seen = features(x, live)
            errors[products] = float(((path.logit(seen) > 0) != label.bool()).float().mean())
            path.learn(seen, torch.zeros(N), label, torch.ones(N))
    assert errors[0] > 0.3
    assert errors[64] < 0.25

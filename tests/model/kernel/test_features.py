"""From an example to the logit: the cheap form is the product with the features, the identity is the frozen model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.kernel.features import FeatureMap, KernelInputs
from model.kernel.kernel import Kernel
from tests.model.conftest import LIVE, RESIDUALS, kernel_start
from tests.model.kernel.kernel_parts import START, batch

MAP = START.features


def inputs(n: int = 20, seed: int = 0) -> KernelInputs:
    return batch(n, seed).inputs


def weights(seed: int, features: FeatureMap = MAP) -> torch.Tensor:
    return torch.randn(features.width, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 60), st.sampled_from([0.01, 1.0, 20.0]))
def test_the_logit_is_the_product_of_features_and_weights(seed: int, n: int, scale: float) -> None:
    w, asked = scale * weights(seed), inputs(n, seed)
    product = MAP.features(asked).double() @ w.double()
    torch.testing.assert_close(MAP.logit(asked, MAP.form(w)).double(), product, rtol=1e-4, atol=1e-4 * scale)


def test_the_direct_features_come_first_each_at_its_scale() -> None:
    asked = inputs()
    phi = MAP.features(asked)
    assert phi.shape == (20, MAP.width)
    assert torch.equal(phi[:, 0], asked.frozen_logit)
    assert torch.equal(phi[:, 1], torch.ones(20))
    assert torch.equal(phi[:, 2 : 2 + LIVE - RESIDUALS], asked.live[:, RESIDUALS:])
    assert torch.equal(phi[:, 2 + LIVE - RESIDUALS : MAP.direct], asked.live[:, :RESIDUALS] / 2)


def test_matching_features_are_products_of_every_direction_and_every_descriptor_column() -> None:
    asked = inputs()
    phi, z = MAP.features(asked), START.compression(asked.x)
    v = START.descriptor(asked.values, asked.frozen_logit)
    width = START.descriptor.width
    torch.testing.assert_close(phi[:, MAP.direct : MAP.direct + width], v / 2)
    for k in range(START.compression.rank):
        begin = MAP.direct + (1 + k) * width
        torch.testing.assert_close(phi[:, begin : begin + width], 0.2 * z[:, k : k + 1] * v)
    assert MAP.width == MAP.direct + (1 + START.compression.rank) * width


@settings(max_examples=40)
@given(st.lists(st.floats(-(2.0**127), 2.0**127, width=32), min_size=1, max_size=9), st.integers(0, 99))
def test_the_identity_kernel_equals_the_frozen_model_bit_for_bit(logit: list[float], seed: int) -> None:
    asked = replace(inputs(len(logit), seed), frozen_logit=torch.tensor(logit))
    assert torch.equal(Kernel.identity(START).logit(asked), asked.frozen_logit)


@pytest.mark.parametrize("size", [1e30, -1e30])
def test_scores_and_live_features_of_any_size_give_bounded_features(size: float) -> None:
    given = inputs()
    asked = replace(
        given, frozen_logit=torch.full((20,), size), live=torch.full_like(given.live, size), x=given.x * 6e4
    )
    phi = MAP.features(asked)
    assert float(phi.abs().max()) <= 30
    assert bool(torch.isfinite(MAP.logit(asked, MAP.form(weights(0)))).all())


def test_a_kernel_whose_compression_keeps_nothing_still_uses_the_descriptor() -> None:
    compression = START.compression
    nothing = replace(
        compression,
        projection=compression.projection[:, :0],
        gain=compression.gain[:0],
        relevance=compression.relevance[:0],
    )
    features = FeatureMap(nothing, START.descriptor, RESIDUALS, LIVE - RESIDUALS)
    w, asked = weights(3, features), inputs()
    assert features.width == features.direct + START.descriptor.width
    torch.testing.assert_close(
        features.logit(asked, features.form(w)), features.features(asked) @ w, rtol=1e-4, atol=1e-4
    )


def test_a_kernel_with_live_features_only_is_linear_in_them() -> None:
    other = kernel_start(4, seed=1)
    assert other.width == 4
    assert other.features.direct == MAP.direct

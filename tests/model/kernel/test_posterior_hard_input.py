"""What makes other learners fail: equal and constant columns, one label only, single and repeated examples."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.kernel.posterior import BatchLikelihood, Posterior
from tests.model.kernel.posterior_parts import MEAN, PRIOR, TRUTH, WIDTH, examples, make_posterior, taught


def test_identical_columns_share_the_weight_of_one() -> None:
    doubled, single = (
        Posterior(torch.zeros(2), torch.ones(2), 1e4, [2]),
        Posterior(torch.zeros(1), torch.tensor([0.5]), 1e4, [1]),
    )
    for seed in range(30):
        features, label, weight = examples(100, seed)
        served = features @ TRUTH
        single = single.after(taught((features[:, :1], label, weight), served))
        doubled = doubled.after(taught((features[:, [0, 0]], label, weight), served))
    first, second = doubled.means[0].tolist()
    assert first == pytest.approx(second, abs=1e-3)
    assert first + second == pytest.approx(float(single.means[0][0]), rel=0.02)


def test_a_rank_deficient_posterior_stays_finite_and_keeps_learning() -> None:
    width = 40
    posterior = Posterior(torch.zeros(width), torch.ones(width), 1e4, [width])
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        column = (15 * torch.randn(64, 1, generator=generator)).clamp(-30, 30)
        features, label = column.expand(64, width).contiguous(), (column[:, 0] > 0).float()
        posterior = posterior.after(taught((features, label, torch.ones(64)), posterior.logit(features, 0)))
        assert bool(torch.isfinite(posterior.means[0]).all())
        assert bool(torch.isfinite(posterior.factor).all())
    assert float(((posterior.logit(features, 0) > 0) == (label > 0)).float().mean()) > 0.95
    assert math.isfinite(posterior.nats())


def test_an_indefinite_precision_is_refused_and_does_not_hang() -> None:
    for damaged in (-1e3, math.nan, math.inf):
        matrix = torch.zeros(WIDTH, WIDTH)
        matrix[2, 2] = damaged
        with pytest.raises(FloatingPointError, match="precision is not finite or not positive"):
            make_posterior().after(BatchLikelihood(1, matrix, torch.zeros(WIDTH)))


@pytest.mark.parametrize("column", [0.0, 1.0, 15.0])
def test_constant_columns_are_accepted(column: float) -> None:
    posterior = make_posterior(1e3)
    for seed in range(30):
        features, label, weight = examples(64, seed)
        features[:, 3:] = column
        posterior = posterior.after(taught((features, label, weight), posterior.logit(features, 0)))
    assert bool(torch.isfinite(posterior.means[0]).all())
    assert float(posterior.means[0][2]) > 0.4
    if column == 0.0:
        torch.testing.assert_close(posterior.means[0][3:], MEAN[3:])


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_only_clicks_or_no_clicks_give_confident_scores_without_overflow(label: float) -> None:
    posterior = make_posterior(1e4)
    for seed in range(200):
        features, _, weight = examples(64, seed)
        features[:, 1] = 1.0
        posterior = posterior.after(taught((features, torch.full((64,), label), weight), posterior.logit(features, 0)))
    score = torch.sigmoid(posterior.logit(features, 0))
    assert bool(torch.isfinite(posterior.means[0]).all())
    assert float((score - label).abs().mean()) < 0.1


def test_batches_of_one_example_equal_one_batch() -> None:
    features, label, weight = examples(200)
    single, whole = make_posterior(), make_posterior().after(taught((features, label, weight)))
    for row in range(200):
        part = slice(row, row + 1)
        single = single.after(taught((features[part], label[part], weight[part])))
    torch.testing.assert_close(single.means[0], whole.means[0], rtol=1e-3, atol=1e-4)


def test_an_example_with_zero_weight_changes_nothing() -> None:
    features, label, weight = examples(64)
    posterior = make_posterior().after(taught((features, label, 0 * weight)))
    torch.testing.assert_close(posterior.means[0], MEAN)
    torch.testing.assert_close(posterior.precision, torch.diag(PRIOR))


@settings(max_examples=25)
@given(st.lists(st.sampled_from([-15.0, -1.0, 0.0, 1.0, 15.0, 30.0]), min_size=WIDTH, max_size=WIDTH), st.booleans())
def test_one_example_repeated_many_times_is_learned_without_divergence(row: list[float], click: bool) -> None:
    posterior = make_posterior(2_000.0)
    features, label = torch.tensor([row]).expand(32, -1).contiguous(), torch.full((32,), float(click))
    for _ in range(40):
        posterior = posterior.after(taught((features, label, torch.ones(32)), posterior.logit(features, 0)))
    assert bool(torch.isfinite(posterior.means[0]).all())
    if any(row):
        assert (float(torch.sigmoid(posterior.logit(features[:1], 0))) > 0.5) == click

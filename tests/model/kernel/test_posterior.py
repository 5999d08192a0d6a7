"""The posterior: the Bayesian answer where that is known, nested models, information that adds up, and no surprises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from model.kernel.posterior import REFRESH_BATCHES, Posterior, information

WIDTH, INNER = 6, 3
PRIOR = torch.tensor([1.0, 2.0, 5.0, 5.0, 30.0, 30.0])
MEAN = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
TRUTH = torch.tensor([0.7, -0.5, 1.0, 0.0, 0.4, -0.3])
FOREVER = math.inf


def examples(n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Features, labels that follow them by `TRUTH`, weights of one."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, WIDTH, generator=generator)
    label = (torch.rand(n, generator=generator) < torch.sigmoid(features @ TRUTH)).float()
    return features, label, torch.ones(n)


def make(half_life: float = FOREVER, widths: tuple[int, ...] = (WIDTH,), prior: Tensor = PRIOR) -> Posterior:
    return Posterior(MEAN, prior, half_life, widths)


def learn(posterior: Posterior, batch: tuple[Tensor, Tensor, Tensor]) -> None:
    features, label, weight = batch
    posterior.learn(features, label, weight, information(features, posterior.logit(features, 0), weight))


class Plain:
    """The recursion of the module's heading, line by line in double precision, the factor never old."""

    def __init__(self, half_life: float) -> None:
        self.half_life = half_life
        self.tau, self.m0 = PRIOR.double().numpy(), MEAN.double().numpy()
        self.precision: NDArray[np.float64] = np.diag(self.tau)
        self.mean = self.m0.copy()

    def learn(self, batch: tuple[Tensor, Tensor, Tensor]) -> None:
        phi, y, w = (part.double().numpy() for part in batch)
        kept = 2.0 ** (-len(phi) / self.half_life)
        p = 1 / (1 + np.exp(-phi @ self.mean))
        self.precision = (
            kept * self.precision + (1 - kept) * np.diag(self.tau) + phi.T @ (phi * (w * p * (1 - p))[:, None])
        )
        step = phi.T @ (w * (y - p)) - (1 - kept) * self.tau * (self.mean - self.m0)
        self.mean = self.mean + np.linalg.solve(self.precision, step)


@pytest.mark.parametrize("half_life", [300.0, 2_000.0, FOREVER])
def test_it_follows_the_plain_recursion(half_life: float) -> None:
    posterior, plain = make(half_life), Plain(half_life)
    for seed in range(60):
        batch = examples(128, seed)
        learn(posterior, batch)
        plain.learn(batch)
    # The two differ by the age of the factor alone, a few percent of a step.
    deviation = np.sqrt(np.diag(np.linalg.inv(plain.precision)))
    np.testing.assert_allclose(
        posterior.precision.numpy(), plain.precision, rtol=2e-2, atol=0.02 * plain.precision.max()
    )
    assert np.abs((posterior.means[0].numpy() - plain.mean) / deviation).max() < 0.3


def test_a_log_that_nothing_is_forgotten_of_ends_at_the_penalised_maximum() -> None:
    posterior = make(prior=torch.full((WIDTH,), 4.0))
    batches = [examples(100, seed) for seed in range(80)]
    for batch in batches:
        learn(posterior, batch)
    x, y = (torch.cat([batch[part] for batch in batches]).double().numpy() for part in (0, 1))
    # The prior mean is (1, 0, ..): an offset that scikit-learn has no word for is learned as ten examples would be.
    fitted = LogisticRegression(C=1 / 4.0, fit_intercept=False, tol=1e-8, max_iter=500).fit(x, y)
    p = 1 / (1 + np.exp(-x @ fitted.coef_[0]))
    precision = 4.0 * np.eye(WIDTH) + x.T @ (x * (p * (1 - p))[:, None])
    shifted = fitted.coef_[0] + np.linalg.solve(precision, 4.0 * MEAN.double().numpy())
    deviation = np.sqrt(np.diag(np.linalg.inv(precision)))
    assert np.abs((posterior.means[0].numpy() - shifted) / deviation).max() < 0.5
    np.testing.assert_allclose(posterior.precision.numpy(), precision, rtol=0.05, atol=0.02 * precision.max())


def test_a_smaller_model_beside_it_learns_as_it_would_alone() -> None:
    nested, alone = make(500.0, (WIDTH, INNER)), Posterior(MEAN[:INNER], PRIOR[:INNER], 500.0, [INNER])
    for seed in range(20):
        features, label, weight = examples(64, seed)
        added = information(features, nested.logit(features, 0), weight)
        nested.learn(features, label, weight, added)
        alone.learn(features[:, :INNER], label, weight, added[:INNER, :INNER])
    torch.testing.assert_close(nested.means[1], alone.means[0], rtol=0.05, atol=0.01)
    torch.testing.assert_close(nested.precision[:INNER, :INNER], alone.precision)
    assert not torch.allclose(nested.means[1], nested.means[0][:INNER], atol=0.02)


def test_the_smaller_model_of_fresh_factors_is_exactly_its_own() -> None:
    nested, alone = make(500.0, (WIDTH, INNER)), Posterior(MEAN[:INNER], PRIOR[:INNER], 500.0, [INNER])
    features, label, weight = examples(64)
    added = information(features, nested.logit(features, 0), weight)
    nested.learn(features, label, weight, added)
    alone.learn(features[:, :INNER], label, weight, added[:INNER, :INNER])
    torch.testing.assert_close(nested.means[1], alone.means[0], rtol=1e-5, atol=1e-6)


@settings(max_examples=20)
@given(st.integers(1, 199), st.integers(0, 1_000))
def test_two_halves_learned_apart_and_summed_are_one_whole(cut: int, seed: int) -> None:
    features, label, weight = examples(200, seed)
    logit = make().logit(features, 0)
    halves = (slice(0, cut), slice(cut, 200))
    parts = [information(features[half], logit[half], weight[half]) for half in halves]
    torch.testing.assert_close(parts[0] + parts[1], information(features, logit, weight), rtol=1e-4, atol=1e-4)
    apart, whole = [make(), make()], make()
    for posterior, half, part in zip(apart, halves, parts, strict=True):
        posterior.learn(features[half], label[half], weight[half], part)
    whole.learn(features, label, weight, information(features, logit, weight))
    # Each half holds the prior once, so the sum holds it once too often.
    summed = apart[0].precision + apart[1].precision - torch.diag(PRIOR)
    torch.testing.assert_close(summed, whole.precision, rtol=1e-4, atol=1e-3)
    pulls = [one.precision @ (one.means[0] - MEAN) for one in apart]
    together = MEAN + torch.linalg.solve(summed, pulls[0] + pulls[1])
    torch.testing.assert_close(together, whole.means[0], rtol=1e-3, atol=1e-3)


def test_a_factor_that_is_refreshed_now_and_then_ends_where_a_fresh_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> Posterior:
        posterior = make(1_000.0)
        for seed in range(50):
            learn(posterior, examples(64, seed))
        return posterior

    lazy = run()
    monkeypatch.setattr("model.kernel.posterior.REFRESH_BATCHES", 1)
    fresh = run()
    deviation = torch.linalg.inv(fresh.precision.double()).diagonal().sqrt()
    assert float(((lazy.means[0] - fresh.means[0]) / deviation).abs().max()) < 0.15


def test_the_factor_is_that_of_the_precision_at_every_refresh_and_whenever_it_has_grown() -> None:
    posterior = make(FOREVER)
    for seed in range(9):
        learn(posterior, examples(64, seed))
        own = posterior.factor @ posterior.factor.T
        if seed % REFRESH_BATCHES == 0:
            torch.testing.assert_close(own, posterior.precision, rtol=1e-4, atol=1e-4)
        assert bool((posterior.precision.diagonal() <= 1.11 * own.diagonal()).all())


def test_after_a_half_life_the_past_weighs_half() -> None:
    posterior = make(100.0)
    learn(posterior, examples(200))
    learned = posterior.precision - torch.diag(PRIOR)
    silent = torch.zeros(100)
    posterior.learn(torch.zeros(100, WIDTH), silent, silent, torch.zeros(WIDTH, WIDTH))
    torch.testing.assert_close(posterior.precision - torch.diag(PRIOR), learned / 2, rtol=1e-4, atol=1e-4)


def test_what_is_never_confirmed_goes_back_to_the_prior() -> None:
    posterior = make(100.0)
    learn(posterior, examples(500))
    silent = torch.zeros(100)
    for _ in range(60):
        posterior.learn(torch.zeros(100, WIDTH), silent, silent, torch.zeros(WIDTH, WIDTH))
    torch.testing.assert_close(posterior.means[0], MEAN, atol=1e-3, rtol=0)
    torch.testing.assert_close(posterior.precision, torch.diag(PRIOR), atol=1e-3, rtol=0)
    assert posterior.nats() == pytest.approx(0.0, abs=1e-3)


@settings(max_examples=15)
@given(st.lists(st.integers(1, 80), min_size=1, max_size=10), st.sampled_from([200.0, FOREVER]))
def test_a_restored_posterior_goes_on_bit_for_bit_from_every_batch(sizes: list[int], half_life: float) -> None:
    posterior, other = make(half_life, (WIDTH, INNER)), make(half_life, (WIDTH, INNER))
    for seed, n in enumerate(sizes):
        other.load({name: tensor.clone() for name, tensor in posterior.state().items()})
        for one in (posterior, other):
            learn(one, examples(n, seed))
        assert all(torch.equal(tensor, other.state()[name]) for name, tensor in posterior.state().items())
        assert posterior.nats() == other.nats()


def test_it_starts_from_what_was_learned_before_and_keeps_what_its_half_life_would_have() -> None:
    before = make(FOREVER, (WIDTH, INNER))
    for seed in range(20):
        learn(before, examples(100, seed))
    long, short = make(1e9), make(100.0)
    for one in (long, short):
        one.start_from(before.means[:1], before.precision, 2_000)
        assert torch.equal(one.means[0], before.means[0])
    torch.testing.assert_close(long.precision, before.precision)
    kept = 100.0 / math.log(2) / 2_000
    expected = kept * before.precision + (1 - kept) * torch.diag(PRIOR)
    torch.testing.assert_close(short.precision, expected)
    torch.testing.assert_close(short.factor @ short.factor.T, expected, rtol=1e-4, atol=1e-4)


def test_what_a_posterior_starts_from_is_its_own() -> None:
    before, after = make(), make()
    learn(before, examples(100))
    after.start_from(before.means, before.precision, 100)
    kept = before.precision.clone(), before.means[0].clone()
    learn(after, examples(100, 1))
    assert torch.equal(before.precision, kept[0]) and torch.equal(before.means[0], kept[1])


# --- what makes other learners stumble ---


def test_columns_that_are_one_and_the_same_share_the_weight_of_one() -> None:
    doubled, single = (
        Posterior(torch.zeros(2), torch.ones(2), 1e4, [2]),
        Posterior(torch.zeros(1), torch.tensor([0.5]), 1e4, [1]),
    )
    for seed in range(30):
        features, label, weight = examples(100, seed)
        learn(single, (features[:, :1], label, weight))
        learn(doubled, (features[:, [0, 0]], label, weight))
    one, other = doubled.means[0].tolist()
    assert one == pytest.approx(other, abs=1e-3)
    assert one + other == pytest.approx(float(single.means[0][0]), rel=0.02)


def test_a_posterior_that_loses_its_rank_stays_finite_and_goes_on_learning() -> None:
    width = 40
    posterior = Posterior(torch.zeros(width), torch.ones(width), 1e4, [width])
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        one = (15 * torch.randn(64, 1, generator=generator)).clamp(-30, 30)
        features, label = one.expand(64, width).contiguous(), (one[:, 0] > 0).float()
        learn(posterior, (features, label, torch.ones(64)))
        assert bool(torch.isfinite(posterior.means[0]).all())
        assert bool(torch.isfinite(posterior.factor).all())
    assert float(((posterior.logit(features, 0) > 0) == (label > 0)).float().mean()) > 0.95
    assert math.isfinite(posterior.nats())


def test_a_precision_that_is_no_precision_is_refused_and_does_not_hang() -> None:
    for damaged in (-1.0, math.nan):
        posterior = make()
        posterior.precision[2, 2] = damaged
        with pytest.raises(FloatingPointError, match="precision is not finite or not positive"):
            learn(posterior, (torch.zeros(1, WIDTH), torch.zeros(1), torch.ones(1)))


@pytest.mark.parametrize("column", [0.0, 1.0, 15.0])
def test_constant_columns_do_no_harm(column: float) -> None:
    posterior = make(1e3)
    for seed in range(30):
        features, label, weight = examples(64, seed)
        features[:, 3:] = column
        learn(posterior, (features, label, weight))
    assert bool(torch.isfinite(posterior.means[0]).all())
    assert float(posterior.means[0][2]) > 0.4
    if column == 0.0:
        torch.testing.assert_close(posterior.means[0][3:], MEAN[3:])


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_all_clicks_or_none_give_a_sure_answer_and_no_overflow(label: float) -> None:
    posterior = make(1e4)
    for seed in range(200):
        features, _, weight = examples(64, seed)
        features[:, 1] = 1.0
        learn(posterior, (features, torch.full((64,), label), weight))
    score = torch.sigmoid(posterior.logit(features, 0))
    assert bool(torch.isfinite(posterior.means[0]).all())
    assert float((score - label).abs().mean()) < 0.05


def test_batches_of_one_end_near_one_batch_of_all() -> None:
    single, whole = make(), make()
    features, label, weight = examples(200)
    learn(whole, (features, label, weight))
    for row in range(200):
        part = slice(row, row + 1)
        learn(single, (features[part], label[part], weight[part]))
    deviation = torch.linalg.inv(whole.precision).diagonal().sqrt()
    assert float(((single.means[0] - whole.means[0]) / deviation).abs().max()) < 1.5


def test_an_example_without_weight_teaches_nothing() -> None:
    posterior = make()
    features, label, weight = examples(64)
    learn(posterior, (features, label, 0 * weight))
    assert torch.equal(posterior.means[0], MEAN)
    torch.testing.assert_close(posterior.precision, torch.diag(PRIOR), atol=1e-3, rtol=0)


@settings(max_examples=25)
@given(st.lists(st.sampled_from([-15.0, -1.0, 0.0, 1.0, 15.0, 30.0]), min_size=WIDTH, max_size=WIDTH), st.booleans())
def test_one_example_repeated_for_ever_is_learned_and_nothing_runs_away(row: list[float], click: bool) -> None:
    posterior = make(2_000.0)
    features, label = torch.tensor([row]).expand(32, -1).contiguous(), torch.full((32,), float(click))
    for _ in range(40):
        learn(posterior, (features, label, torch.ones(32)))
    assert bool(torch.isfinite(posterior.means[0]).all())
    if any(row):
        assert (float(torch.sigmoid(posterior.logit(features[:1], 0))) > 0.5) == click


# --- nats ---


def test_nats_are_the_divergence_of_two_gaussians() -> None:
    posterior = make(1e4)
    assert posterior.nats() == pytest.approx(0.0, abs=1e-6)
    learn(posterior, examples(300))
    after = torch.distributions.MultivariateNormal(
        posterior.means[0].double(), precision_matrix=posterior.precision.double()
    )
    before = torch.distributions.MultivariateNormal(MEAN.double(), precision_matrix=torch.diag(PRIOR.double()))
    assert posterior.nats() == pytest.approx(float(torch.distributions.kl_divergence(after, before)), rel=1e-3)


def test_the_gain_of_an_example_is_what_its_information_adds_to_the_entropy() -> None:
    posterior = make(1e4)
    learn(posterior, examples(300))
    features, _, weight = examples(5, 1)
    logit = posterior.logit(features, 0)
    gain = posterior.gain(features, logit)
    before = torch.linalg.slogdet(posterior.precision.double())[1]
    for row in range(5):
        part = slice(row, row + 1)
        after = posterior.precision.double() + information(features[part], logit[part], weight[part]).double()
        assert float(gain[row]) == pytest.approx(float(0.5 * (torch.linalg.slogdet(after)[1] - before)), rel=1e-3)


def test_an_example_that_has_been_seen_often_teaches_less() -> None:
    posterior = make(1e6)
    features, label, weight = examples(64)
    first = posterior.gain(features, posterior.logit(features, 0))
    for _ in range(10):
        learn(posterior, (features, label, weight))
    assert bool((posterior.gain(features, posterior.logit(features, 0)) < first).all())

"""The posterior: the Bayesian answer where it is known, late clicks, nested models, sums, and no surprises."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from model.kernel.posterior import BatchLikelihood, Expansion, Posterior

Batch = tuple[Tensor, Tensor, Tensor]
WIDTH, INNER = 6, 3
PRIOR = torch.tensor([1.0, 2.0, 5.0, 5.0, 30.0, 30.0])
MEAN = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
TRUTH = torch.tensor([0.7, -0.5, 1.0, 0.0, 0.4, -0.3])
FOREVER = math.inf


def examples(n: int, seed: int = 0) -> Batch:
    """Features, labels that follow them by `TRUTH`, weights of one."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, WIDTH, generator=generator)
    label = (torch.rand(n, generator=generator) < torch.sigmoid(features @ TRUTH)).float()
    return features, label, torch.ones(n)


def make(half_life: float = FOREVER, widths: tuple[int, ...] = (WIDTH,), prior: Tensor = PRIOR) -> Posterior:
    return Posterior(MEAN, prior, half_life, widths)


def taught(batch: Batch, served: Tensor | None = None) -> BatchLikelihood:
    """Served by the truth, as a kernel that has learned would."""
    features, label, weight = batch
    served = features @ TRUTH[: features.shape[1]] if served is None else served
    return BatchLikelihood.of(features, label, weight, Expansion(served, torch.zeros(len(label))))


def learned(posterior: Posterior, seeds: Sequence[int], n: int = 100) -> Posterior:
    for seed in seeds:
        posterior = posterior.after(taught(examples(n, seed)))
    return posterior


class Plain:
    """The recursion of the module's heading, line by line in double precision."""

    def __init__(self, half_life: float) -> None:
        self.half_life = half_life
        self.tau, self.m0 = PRIOR.double().numpy(), MEAN.double().numpy()
        self.precision: NDArray[np.float64] = np.diag(self.tau)
        self.vector = self.tau * self.m0

    def learn(self, batch: Batch) -> None:
        phi, y, weight = (part.double().numpy() for part in batch)
        kept = 2.0 ** (-len(phi) / self.half_life)
        at = phi @ TRUTH.double().numpy()
        p, near = 1 / (1 + np.exp(-at)), 1 / (1 + np.exp(-np.clip(at, -2, 2)))
        w = near * (1 - near)
        self.precision = kept * self.precision + (1 - kept) * np.diag(self.tau) + phi.T @ (phi * (weight * w)[:, None])
        self.vector = kept * self.vector + (1 - kept) * self.tau * self.m0 + phi.T @ (weight * (y - p + w * at))

    @property
    def mean(self) -> NDArray[np.float64]:
        return np.linalg.solve(self.precision, self.vector)


@pytest.mark.parametrize("half_life", [300.0, 2_000.0, FOREVER])
def test_the_posterior_follows_the_plain_recursion(half_life: float) -> None:
    posterior, plain = make(half_life), Plain(half_life)
    for seed in range(60):
        batch = examples(128, seed)
        posterior = posterior.after(taught(batch))
        plain.learn(batch)
    np.testing.assert_allclose(posterior.precision.numpy(), plain.precision, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(posterior.means[0].numpy(), plain.mean, rtol=1e-4, atol=1e-4)


def test_without_forgetting_the_posterior_mean_is_the_penalised_maximum_likelihood() -> None:
    prior = torch.full((WIDTH,), 4.0)
    posterior, batches = make(prior=prior), [examples(100, seed) for seed in range(80)]
    for batch in batches:
        posterior = posterior.after(taught(batch))
    x, y = (torch.cat([batch[part] for batch in batches]).double().numpy() for part in (0, 1))
    # The prior mean is (1, 0, ..): an offset that scikit-learn has no word for is learned as ten examples would be.
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1 / 4.0, fit_intercept=False, tol=1e-8, max_iter=500).fit(x, y)
    p = 1 / (1 + np.exp(-x @ fitted.coef_[0]))
    precision = 4.0 * np.eye(WIDTH) + x.T @ (x * (p * (1 - p))[:, None])
    shifted = fitted.coef_[0] + np.linalg.solve(precision, 4.0 * MEAN.double().numpy())
    deviation = np.sqrt(np.diag(np.linalg.inv(precision)))
    assert np.abs((posterior.means[0].numpy() - shifted) / deviation).max() < 1.0


@pytest.mark.parametrize("off", [-8.0, -4.0, 4.0, 8.0])
def test_weights_do_not_diverge_if_the_served_model_is_confident_and_wrong(off: float) -> None:
    features, label, weight = examples(8_000)
    posterior = make().after(taught((features, label, weight), features @ TRUTH + off))
    ratio = (posterior.means[0] / TRUTH)[TRUTH != 0]
    assert 1 < float(ratio.min()) < float(ratio.max()) < 3


def test_the_curvature_is_that_of_the_served_logit_and_near_the_overall_rate_no_less_than_at_the_bound() -> None:
    served, rate = torch.tensor([-9.0, -2.0, 0.5, 99.0]), torch.tensor([-1.0, -1.0, 0.0, 3.0])
    expansion = Expansion(served, rate)
    assert expansion.point().tolist() == [-9.0, -2.0, 0.5, 15.0]
    score = torch.sigmoid(torch.tensor([-3.0, -2.0, 0.5, 5.0]))
    torch.testing.assert_close(expansion.curvature(), score * (1 - score))


# --- late clicks ---


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from([50.0, 400.0, FOREVER]), st.integers(0, 1_000))
def test_a_corrected_posterior_equals_that_of_clicks_on_time(data: st.DataObject, half_life: float, seed: int) -> None:
    sizes = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=8))
    true, late = make(half_life, (WIDTH, INNER)), make(half_life, (WIDTH, INNER))
    waiting: list[tuple[Tensor, Tensor, int]] = []
    total = 0
    for number, n in enumerate(sizes):
        features, label, weight = examples(n, seed + number)
        weight = weight * (1 + number)
        true = true.after(taught((features, label, weight)))
        hidden = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n))) & (label > 0)
        late = late.after(taught((features, label * ~hidden, weight)))
        total += n
        waiting += [(features[row][None], weight[row][None], total) for row in hidden.nonzero()[:, 0].tolist()]
        if data.draw(st.booleans()):
            late = make(half_life, (WIDTH, INNER)).restored(late.state())
        waiting = data.draw(st.permutations(waiting))
        for _ in range(data.draw(st.integers(0, len(waiting)))):
            late = corrected(late, waiting.pop(), total)
    for one in waiting:
        late = corrected(late, one, total)
    assert torch.equal(late.precision.tril(), true.precision.tril())
    for model in range(2):
        torch.testing.assert_close(late.vectors[model], true.vectors[model], rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(late.means[model], true.means[model], rtol=1e-4, atol=1e-4)


def corrected(posterior: Posterior, one: tuple[Tensor, Tensor, int], total: int) -> Posterior:
    features, weight, learned_at = one
    return posterior.corrected(features, weight, torch.tensor([float(total - learned_at)]).double())


# --- nested models, sums, memory ---


def test_a_nested_smaller_model_equals_a_separate_one() -> None:
    nested, alone = make(500.0, (WIDTH, INNER)), Posterior(MEAN[:INNER], PRIOR[:INNER], 500.0, [INNER])
    for seed in range(20):
        features, label, weight = examples(64, seed)
        served = features @ TRUTH
        nested = nested.after(taught((features, label, weight), served))
        alone = alone.after(taught((features[:, :INNER], label, weight), served))
    torch.testing.assert_close(nested.means[1], alone.means[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(nested.precision[:INNER, :INNER], alone.precision)
    assert not torch.allclose(nested.means[1], nested.means[0][:INNER], atol=0.02)


@settings(max_examples=20)
@given(st.integers(1, 199), st.integers(0, 1_000))
def test_two_halves_learned_separately_sum_to_the_whole(cut: int, seed: int) -> None:
    features, label, weight = examples(200, seed)
    halves = [(features[half], label[half], weight[half]) for half in (slice(0, cut), slice(cut, 200))]
    apart, whole = [make().after(taught(half)) for half in halves], make().after(taught((features, label, weight)))
    joined = make().joined([(apart[0], cut), (apart[1], 200 - cut)])
    torch.testing.assert_close(joined.precision, whole.precision, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(joined.means[0], whole.means[0], rtol=1e-3, atol=1e-3)


def test_parts_learned_separately_add_up_and_the_start_counts_once() -> None:
    start = make(100.0).after(taught(examples(200)))
    halves = [start.after(taught(examples(60, seed))) for seed in (1, 2)]
    left = 2.0 ** (-120 / 100.0)
    learned = [half.precision - 2.0 ** (-0.6) * start.precision for half in halves]
    learned = [one - (1 - 2.0 ** (-0.6)) * torch.diag(PRIOR) for one in learned]
    expected = learned[0] + learned[1] + left * start.precision + (1 - left) * torch.diag(PRIOR)
    joined = start.joined([(half, 60) for half in halves])
    torch.testing.assert_close(joined.precision, expected, rtol=1e-4, atol=1e-3)


SILENCE = BatchLikelihood(100, torch.zeros(WIDTH, WIDTH), torch.zeros(WIDTH))


def test_after_one_half_life_past_examples_have_half_their_weight() -> None:
    posterior = make(100.0).after(taught(examples(200)))
    after = posterior.after(SILENCE)
    torch.testing.assert_close(
        after.precision - torch.diag(PRIOR), (posterior.precision - torch.diag(PRIOR)) / 2, rtol=1e-4, atol=1e-4
    )


def test_weights_without_new_evidence_return_to_the_prior() -> None:
    posterior = make(100.0).after(taught(examples(500)))
    for _ in range(60):
        posterior = posterior.after(SILENCE)
    torch.testing.assert_close(posterior.means[0], MEAN, atol=1e-3, rtol=0)
    torch.testing.assert_close(posterior.precision, torch.diag(PRIOR), atol=1e-3, rtol=0)
    assert posterior.nats() == pytest.approx(0.0, abs=1e-3)


@settings(max_examples=15)
@given(st.lists(st.integers(1, 80), min_size=1, max_size=10), st.sampled_from([200.0, FOREVER]))
def test_a_restored_posterior_continues_bit_for_bit_from_every_batch(sizes: list[int], half_life: float) -> None:
    posterior = make(half_life, (WIDTH, INNER))
    for seed, n in enumerate(sizes):
        other = make(half_life, (WIDTH, INNER)).restored(posterior.state())
        posterior, other = (one.after(taught(examples(n, seed))) for one in (posterior, other))
        assert all(torch.equal(tensor, other.state()[name]) for name, tensor in posterior.state().items())
        assert all(torch.equal(*pair) for pair in zip(posterior.means, other.means, strict=True))
        assert posterior.nats() == other.nats()


def test_a_posterior_starts_from_earlier_learning_weighted_by_its_half_life() -> None:
    before = learned(make(FOREVER, (WIDTH, INNER)), range(20))
    long, short = (make(life).started_from(before.means[:1], before.precision, 2_000) for life in (1e9, 100.0))
    for one in (long, short):
        torch.testing.assert_close(one.means[0], before.means[0])
    torch.testing.assert_close(long.precision, before.precision)
    kept = 100.0 / math.log(2) / 2_000
    expected = kept * before.precision + (1 - kept) * torch.diag(PRIOR)
    torch.testing.assert_close(short.precision, expected)
    torch.testing.assert_close(short.factor @ short.factor.T, expected, rtol=1e-4, atol=1e-4)


def test_a_posterior_is_immutable() -> None:
    before = learned(make(), [0])
    kept = before.precision.clone(), before.means[0].clone(), before.vectors[0].clone()
    before.after(taught(examples(100, 1)))
    before.corrected(examples(3)[0], torch.ones(3), torch.zeros(3).double())
    before.started_from(before.means, before.precision, 5).after(taught(examples(9)))
    assert all(map(torch.equal, kept, (before.precision, before.means[0], before.vectors[0])))


# --- what makes other learners stumble ---


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
    one, other = doubled.means[0].tolist()
    assert one == pytest.approx(other, abs=1e-3)
    assert one + other == pytest.approx(float(single.means[0][0]), rel=0.02)


def test_a_rank_deficient_posterior_stays_finite_and_keeps_learning() -> None:
    width = 40
    posterior = Posterior(torch.zeros(width), torch.ones(width), 1e4, [width])
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        one = (15 * torch.randn(64, 1, generator=generator)).clamp(-30, 30)
        features, label = one.expand(64, width).contiguous(), (one[:, 0] > 0).float()
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
            make().after(BatchLikelihood(1, matrix, torch.zeros(WIDTH)))


@pytest.mark.parametrize("column", [0.0, 1.0, 15.0])
def test_constant_columns_are_accepted(column: float) -> None:
    posterior = make(1e3)
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
    posterior = make(1e4)
    for seed in range(200):
        features, _, weight = examples(64, seed)
        features[:, 1] = 1.0
        posterior = posterior.after(taught((features, torch.full((64,), label), weight), posterior.logit(features, 0)))
    score = torch.sigmoid(posterior.logit(features, 0))
    assert bool(torch.isfinite(posterior.means[0]).all())
    assert float((score - label).abs().mean()) < 0.1


def test_batches_of_one_example_equal_one_batch() -> None:
    features, label, weight = examples(200)
    single, whole = make(), make().after(taught((features, label, weight)))
    for row in range(200):
        part = slice(row, row + 1)
        single = single.after(taught((features[part], label[part], weight[part])))
    torch.testing.assert_close(single.means[0], whole.means[0], rtol=1e-3, atol=1e-4)


def test_an_example_with_zero_weight_changes_nothing() -> None:
    features, label, weight = examples(64)
    posterior = make().after(taught((features, label, 0 * weight)))
    torch.testing.assert_close(posterior.means[0], MEAN)
    torch.testing.assert_close(posterior.precision, torch.diag(PRIOR))


@settings(max_examples=25)
@given(st.lists(st.sampled_from([-15.0, -1.0, 0.0, 1.0, 15.0, 30.0]), min_size=WIDTH, max_size=WIDTH), st.booleans())
def test_one_example_repeated_many_times_is_learned_without_divergence(row: list[float], click: bool) -> None:
    posterior = make(2_000.0)
    features, label = torch.tensor([row]).expand(32, -1).contiguous(), torch.full((32,), float(click))
    for _ in range(40):
        posterior = posterior.after(taught((features, label, torch.ones(32)), posterior.logit(features, 0)))
    assert bool(torch.isfinite(posterior.means[0]).all())
    if any(row):
        assert (float(torch.sigmoid(posterior.logit(features[:1], 0))) > 0.5) == click


# --- nats ---


def test_nats_are_the_divergence_of_two_gaussians() -> None:
    posterior = make(1e4)
    assert posterior.nats() == pytest.approx(0.0, abs=1e-6)
    posterior = posterior.after(taught(examples(300)))
    after = torch.distributions.MultivariateNormal(
        posterior.means[0].double(), precision_matrix=posterior.precision.double()
    )
    before = torch.distributions.MultivariateNormal(MEAN.double(), precision_matrix=torch.diag(PRIOR.double()))
    assert posterior.nats() == pytest.approx(float(torch.distributions.kl_divergence(after, before)), rel=1e-3)


def test_the_gain_of_an_example_is_its_information_about_the_weights() -> None:
    posterior = make(1e4).after(taught(examples(300)))
    features, _, _ = examples(5, 1)
    logit = posterior.logit(features, 0).clamp(-1.5, 1.5)
    gain = posterior.gain(features, logit)
    before = torch.linalg.slogdet(posterior.precision.double())[1]
    for row in range(5):
        part = slice(row, row + 1)
        added = taught((features[part], torch.zeros(1), torch.ones(1)), logit[part])
        after = posterior.precision.double() + added.precision.double()
        assert float(gain[row]) == pytest.approx(float(0.5 * (torch.linalg.slogdet(after)[1] - before)), rel=1e-3)


def test_the_gain_of_a_repeated_example_falls() -> None:
    posterior, batch = make(1e6), examples(64)
    first = posterior.gain(batch[0], posterior.logit(batch[0], 0))
    for _ in range(10):
        posterior = posterior.after(taught(batch))
    assert bool((posterior.gain(batch[0], posterior.logit(batch[0], 0)) < first).all())

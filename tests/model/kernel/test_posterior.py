"""The posterior: the Bayesian answer where it is known, forgetting, and information in nats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.kernel.posterior import Expansion
from tests.model.kernel.posterior_parts import (
    FOREVER,
    MEAN,
    PRIOR,
    SILENCE,
    TRUTH,
    WIDTH,
    Batch,
    examples,
    make_posterior,
    taught,
)


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
    posterior, plain = make_posterior(half_life), Plain(half_life)
    for seed in range(60):
        batch = examples(128, seed)
        posterior = posterior.after(taught(batch))
        plain.learn(batch)
    np.testing.assert_allclose(posterior.precision.numpy(), plain.precision, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(posterior.means[0].numpy(), plain.mean, rtol=1e-4, atol=1e-4)


def test_without_forgetting_the_posterior_mean_is_the_penalised_maximum_likelihood() -> None:
    prior = torch.full((WIDTH,), 4.0)
    posterior, batches = make_posterior(prior=prior), [examples(100, seed) for seed in range(80)]
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
    posterior = make_posterior().after(taught((features, label, weight), features @ TRUTH + off))
    ratio = (posterior.means[0] / TRUTH)[TRUTH != 0]
    assert 1 < float(ratio.min()) < float(ratio.max()) < 3


def test_the_curvature_is_that_of_the_served_logit_and_near_the_overall_rate_no_less_than_at_the_bound() -> None:
    served, rate = torch.tensor([-9.0, -2.0, 0.5, 99.0]), torch.tensor([-1.0, -1.0, 0.0, 3.0])
    expansion = Expansion(served, rate)
    assert expansion.point().tolist() == [-9.0, -2.0, 0.5, 15.0]
    score = torch.sigmoid(torch.tensor([-3.0, -2.0, 0.5, 5.0]))
    torch.testing.assert_close(expansion.curvature(), score * (1 - score))


def test_after_one_half_life_past_examples_have_half_their_weight() -> None:
    posterior = make_posterior(100.0).after(taught(examples(200)))
    after = posterior.after(SILENCE)
    torch.testing.assert_close(
        after.precision - torch.diag(PRIOR), (posterior.precision - torch.diag(PRIOR)) / 2, rtol=1e-4, atol=1e-4
    )


def test_weights_without_new_evidence_return_to_the_prior() -> None:
    posterior = make_posterior(100.0).after(taught(examples(500)))
    for _ in range(60):
        posterior = posterior.after(SILENCE)
    torch.testing.assert_close(posterior.means[0], MEAN, atol=1e-3, rtol=0)
    torch.testing.assert_close(posterior.precision, torch.diag(PRIOR), atol=1e-3, rtol=0)
    assert posterior.nats() == pytest.approx(0.0, abs=1e-3)


def test_nats_are_the_divergence_of_two_gaussians() -> None:
    posterior = make_posterior(1e4)
    assert posterior.nats() == pytest.approx(0.0, abs=1e-6)
    posterior = posterior.after(taught(examples(300)))
    after = torch.distributions.MultivariateNormal(
        posterior.means[0].double(), precision_matrix=posterior.precision.double()
    )
    before = torch.distributions.MultivariateNormal(MEAN.double(), precision_matrix=torch.diag(PRIOR.double()))
    assert posterior.nats() == pytest.approx(float(torch.distributions.kl_divergence(after, before)), rel=1e-3)


def test_the_gain_of_an_example_is_its_information_about_the_weights() -> None:
    posterior = make_posterior(1e4).after(taught(examples(300)))
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
    posterior, batch = make_posterior(1e6), examples(64)
    first = posterior.gain(batch[0], posterior.logit(batch[0], 0))
    for _ in range(10):
        posterior = posterior.after(taught(batch))
    assert bool((posterior.gain(batch[0], posterior.logit(batch[0], 0)) < first).all())

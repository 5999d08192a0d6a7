"""The Gaussian information bottleneck: the closed solution is the one of the formulas, whatever the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.kernel.compression import Compression


def grouped(n: int = 600, d: int = 6, groups: int = 12, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Representations that lie around the means of their groups, the first directions more so."""
    rng = np.random.default_rng(seed)
    group = rng.integers(groups, size=n)
    spread = np.linspace(3.0, 0.1, d)
    x = rng.normal(size=(n, d)) + (rng.normal(size=(groups, d)) * spread)[group]
    return (x @ rng.normal(size=(d, d))).astype(np.float32), group.astype(np.int64)


def covariances(x: NDArray[np.float32], group: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ridged covariance of x, and covariance of the groups' means, written out."""
    values = x.astype(np.float64) - x.astype(np.float64).mean(0)
    total = values.T @ values / len(values)
    total += 0.01 * np.trace(total) / len(total) * np.eye(len(total))
    between = np.zeros_like(total)
    for number in np.unique(group):
        mean = values[group == number].mean(0)
        between += (group == number).mean() * np.outer(mean, mean)
    return total, between


def objective(a: NDArray[np.float64], x: NDArray[np.float32], group: NDArray[np.int64], beta: float) -> float:
    """`I(T; x) - beta I(T; who, where)` of `T = a x + N(0, I)` (Chechik et al., section 3), nats."""
    total, between = covariances(x, group)
    within = total - between
    eye = np.eye(len(a))
    rate = 0.5 * np.linalg.slogdet(a @ total @ a.T + eye)[1]
    lost = 0.5 * np.linalg.slogdet(a @ within @ a.T + eye)[1]
    return float(rate - beta * (rate - lost))


def test_directions_are_the_generalised_eigenvectors_of_between_against_total() -> None:
    x, group = grouped()
    made = Compression.fit(x, group, beta=2.0, rank=6)
    total, between = covariances(x, group)
    a, s = made.projection.double().numpy(), made.relevance.double().numpy()
    scale = np.abs(total @ a).max()
    np.testing.assert_allclose(between @ a, total @ a * s, atol=1e-5 * scale)
    np.testing.assert_allclose(a.T @ total @ a, np.eye(made.rank), atol=1e-4)
    assert (np.diff(s) <= 0).all()
    assert (2 * s > 1).all()
    assert 0 < made.rank < 6


@pytest.mark.parametrize("beta", [1.5, 2.0, 8.0])
def test_no_other_projection_reaches_a_lower_objective(beta: float) -> None:
    x, group = grouped(d=4)
    made = Compression.fit(x, group, beta=beta, rank=4)
    s = made.relevance.double().numpy()
    # The gain is kept up to its scale: Chechik's own has alpha^2 = (beta s - 1) / (1 - s) on directions of variance 1.
    alpha = np.sqrt((beta * s - 1) / (1 - s))
    best = objective(alpha[:, None] * made.projection.double().numpy().T, x, group, beta)
    np.testing.assert_allclose(made.gain.numpy(), alpha / np.sqrt((alpha**2).mean()), rtol=1e-5)
    rng = np.random.default_rng(1)
    a = alpha[:, None] * made.projection.double().numpy().T
    tried = [objective(a * rng.normal(1, 0.2, size=a.shape), x, group, beta) for _ in range(200)]
    tried += [objective(rng.normal(size=(4, 4)) * scale, x, group, beta) for scale in (0.1, 1, 10) for _ in range(50)]
    assert best <= min(tried) + 1e-9
    assert best < 0


def test_nats_are_the_mutual_informations_of_the_bottleneck() -> None:
    x, group = grouped(d=5)
    made = Compression.fit(x, group, beta=2.0, rank=5)
    total, between = covariances(x, group)
    s = made.relevance.double().numpy()
    a = np.sqrt((2 * s - 1) / (1 - s))[:, None] * made.projection.double().numpy().T
    eye = np.eye(made.rank)
    kept = 0.5 * np.linalg.slogdet(a @ total @ a.T + eye)[1]
    noise = 0.5 * np.linalg.slogdet(a @ (total - between) @ a.T + eye)[1]
    assert made.nats_kept == pytest.approx(kept, rel=1e-4)
    assert made.nats_relevant == pytest.approx(kept - noise, rel=1e-4)
    assert 0 < made.nats_relevant < made.nats_kept


@settings(max_examples=20)
@given(st.floats(1e-3, 1e3), st.integers(0, 50))
def test_the_scale_and_the_location_of_x_do_not_matter(scale: float, seed: int) -> None:
    x, group = grouped(n=200, d=4, seed=seed)
    fitted = Compression.fit(x, group, beta=2.0, rank=4)
    moved = (scale * (x + 3.0)).astype(np.float32)
    other = Compression.fit(moved, group, beta=2.0, rank=4)
    assert fitted.rank == other.rank
    torch.testing.assert_close(fitted.relevance, other.relevance, rtol=1e-3, atol=1e-4)
    z, again = fitted(torch.from_numpy(x)), other(torch.from_numpy(moved))
    # A direction is known up to its sign.
    torch.testing.assert_close(z.abs(), again.abs(), rtol=2e-2, atol=2e-2)


def test_the_order_of_the_examples_and_the_numbers_of_the_groups_do_not_matter() -> None:
    x, group = grouped()
    shuffled = np.random.default_rng(5).permutation(len(x))
    fitted = Compression.fit(x, group, beta=2.0, rank=4)
    other = Compression.fit(x[shuffled], (7 - 3 * group[shuffled]) * 10**9, beta=2.0, rank=4)
    torch.testing.assert_close(fitted.relevance, other.relevance, rtol=1e-5, atol=1e-6)


def test_at_most_rank_directions_are_kept_and_they_are_the_most_relevant() -> None:
    x, group = grouped()
    all_of_them = Compression.fit(x, group, beta=8.0, rank=6)
    two = Compression.fit(x, group, beta=8.0, rank=2)
    assert all_of_them.rank > two.rank == 2
    assert torch.equal(two.relevance, all_of_them.relevance[:2])


def test_compressed_representations_are_clipped_and_gains_have_a_mean_square_of_one() -> None:
    x, group = grouped()
    made = Compression.fit(x, group, beta=2.0, rank=3)
    z = made(torch.from_numpy(1e6 * x))
    assert bool((z.abs() <= 4 * made.gain + 1e-6).all())
    assert float((made.gain**2).mean()) == pytest.approx(1.0, rel=1e-5)


def check_nothing_is_kept(made: Compression, x: NDArray[np.float32]) -> None:
    assert made.rank == 0
    assert made(torch.from_numpy(x)).shape == (len(x), 0)
    assert made.nats_kept == made.nats_relevant == 0.0


def test_a_constant_x_keeps_nothing() -> None:
    x = np.full((100, 5), 3.25, dtype=np.float32)
    check_nothing_is_kept(Compression.fit(x, np.arange(100) % 7, beta=2.0, rank=4), x)


def test_one_group_keeps_nothing() -> None:
    x, group = grouped()
    check_nothing_is_kept(Compression.fit(x, 0 * group, beta=2.0, rank=4), x)


def test_groups_that_x_does_not_separate_keep_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(4_000, 4)).astype(np.float32)
    check_nothing_is_kept(Compression.fit(x, np.arange(4_000) % 3, beta=2.0, rank=4), x)


def test_a_singular_covariance_is_accepted() -> None:
    x, group = grouped(d=4)
    doubled = np.concatenate([x, x[:, :2], np.ones((len(x), 1), dtype=np.float32)], axis=1)
    made = Compression.fit(doubled, group, beta=2.0, rank=7)
    assert 0 < made.rank <= 4
    assert bool(torch.isfinite(made(torch.from_numpy(doubled))).all())


def test_one_group_per_example_stays_finite() -> None:
    x, _ = grouped(n=80, d=4)
    made = Compression.fit(x, np.arange(80), beta=2.0, rank=4)
    assert made.rank > 0
    assert float(made.relevance.max()) <= 0.995 + 1e-6
    assert bool(torch.isfinite(made(torch.from_numpy(x))).all())
    assert np.isfinite([made.nats_kept, made.nats_relevant]).all()


def test_fewer_examples_than_columns_are_accepted() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 64)).astype(np.float32)
    made = Compression.fit(x, np.arange(50) // 5, beta=2.0, rank=8)
    assert made.rank <= 8
    assert bool(torch.isfinite(made(torch.from_numpy(x))).all())


def test_compression_is_deterministic_bit_for_bit() -> None:
    x, group = grouped()
    fitted, other = (Compression.fit(x, group, beta=2.0, rank=4) for _ in range(2))
    assert torch.equal(fitted.projection, other.projection)
    assert torch.equal(fitted.gain, other.gain)

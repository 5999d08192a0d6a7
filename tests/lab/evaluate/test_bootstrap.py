"""Intervals over a log's users: weights count like repeated events, and differences between adapters are paired."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lab.evaluate.bootstrap import FIGURES, bootstrap_interval, draw_users, drawn_figures
from lab.evaluate.prepare import PreparedStream
from model.evaluation import auc, grouped_auc, log_loss, sigmoid

N, USERS = 240, 12


@pytest.fixture
def data() -> PreparedStream:
    """Requests of three items by twelve users."""
    rng = np.random.default_rng(0)
    empty = np.zeros(N, dtype=np.float32)
    number = np.arange(N)
    return PreparedStream(
        x=np.zeros((N, 1), dtype=np.float16), live=np.zeros((N, 1), dtype=np.float32),
        values=np.zeros((N, 1), dtype=np.int16), frozen_logit=empty, domain=np.zeros((N, 3), dtype=np.int64),
        user=(number // 3) % USERS, item=number, request=number // 3, time=number.astype(np.float64), label=empty,
        truth=(rng.random(N) < 0.4).astype(np.float32), probability=empty, decided=number, corrected=number,
        batch=number // 64,
    )  # fmt: skip


@pytest.fixture
def logit() -> NDArray[np.float32]:
    """Rounded, so that there are ties."""
    return np.random.default_rng(1).normal(size=N).round(1).astype(np.float32)


def figures(data: PreparedStream, logit: NDArray[np.float32]) -> list[float]:
    return [
        grouped_auc(data.truth, logit, data.request), auc(data.truth, logit), log_loss(data.truth, sigmoid(logit)),
    ]  # fmt: skip


def test_a_bootstrap_sample_with_every_user_once_gives_the_original_figures(
    data: PreparedStream, logit: NDArray[np.float32]
) -> None:
    drawn = drawn_figures(data, logit, np.ones((1, N), dtype=np.float32))
    assert drawn[:, 0] == pytest.approx(figures(data, logit), abs=1e-6)


def test_a_user_drawn_twice_counts_as_if_the_log_held_the_events_twice(
    data: PreparedStream, logit: NDArray[np.float32]
) -> None:
    weights = draw_users(data.user, 30)
    drawn = drawn_figures(data, logit, weights)
    for draw, times in enumerate(weights):
        rows = np.repeat(np.arange(N), times.astype(int))
        copy = np.concatenate([np.arange(t) for t in times.astype(int)])
        repeated = replace(
            data, truth=data.truth[rows], request=data.request[rows] + 1_000 * copy
        )  # each copy of a request is a list of its own
        assert drawn[:, draw] == pytest.approx(figures(repeated, logit[rows]), abs=1e-5)


def test_users_are_resampled_with_all_their_events_and_in_the_original_number(data: PreparedStream) -> None:
    weights = draw_users(data.user, 50)
    first = np.unique(data.user, return_index=True)[1]
    assert (weights == weights[:, first][:, data.user]).all()
    assert (weights[:, first].sum(axis=1) == USERS).all()
    assert (draw_users(data.user, 50) == weights).all()


def test_a_bootstrap_sample_without_a_pair_to_order_is_left_out_of_the_interval(
    data: PreparedStream, logit: NDArray[np.float32]
) -> None:
    one_sided = replace(data, truth=np.where(data.user == 0, data.truth, 0).astype(np.float32))
    drawn = drawn_figures(one_sided, logit, draw_users(data.user, 50))
    missing = np.isnan(drawn[FIGURES.index("auc")])
    assert 0 < missing.sum() < len(missing)
    assert bootstrap_interval(0.0, drawn[FIGURES.index("auc")]).half_width > 0


def test_an_adapter_that_is_always_slightly_better_differs_significantly_although_users_vary(
    data: PreparedStream, logit: NDArray[np.float32]
) -> None:
    better = logit + 0.2 * data.truth
    weights = draw_users(data.user)
    own, other = drawn_figures(data, logit, weights)[1], drawn_figures(data, better.astype(np.float32), weights)[1]
    alone, apart = bootstrap_interval(0.0, own), bootstrap_interval(float((other - own).mean()), other - own)
    assert apart.low > 0
    assert apart.half_width < alone.half_width / 2


def test_two_equal_adapters_differ_by_zero_with_a_zero_interval(
    data: PreparedStream, logit: NDArray[np.float32]
) -> None:
    drawn = drawn_figures(data, logit, draw_users(data.user))
    nothing = bootstrap_interval(0.0, drawn[0] - drawn[0])
    assert (nothing.mean, nothing.half_width) == (0.0, 0.0)

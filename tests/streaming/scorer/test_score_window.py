"""Recent scores of one arm: mean and shift."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streaming.scorer.score_window import ScoreWindow, stability_index


def _scores(count: int, seed: int = 0, shift: float = 0.0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(shift, 1, size=count).astype(np.float32)


def test_equal_windows_have_no_shift() -> None:
    scores = _scores(2_000).astype(np.float64)
    assert stability_index(scores, scores) == pytest.approx(0, abs=1e-12)


def test_a_shifted_distribution_is_a_shift_and_a_new_sample_is_not() -> None:
    first = _scores(2_000).astype(np.float64)
    assert stability_index(first, _scores(2_000, 1).astype(np.float64)) < 0.1
    assert stability_index(first, _scores(2_000, 1, shift=1).astype(np.float64)) > 0.25


def test_the_index_follows_the_formula_on_a_small_case() -> None:
    first = np.repeat(np.arange(10.0), 10)
    recent = np.repeat(np.arange(5.0), 20)
    expected = 5 * (0.2 - 0.1) * math.log(2) + 5 * (1e-4 - 0.1) * math.log(1e-4 / 0.1)
    assert stability_index(first, recent) == pytest.approx(expected)


def test_constant_scores_do_not_break_the_index() -> None:
    assert stability_index(np.full(100, 0.5), np.full(100, 0.5)) == 0


def test_without_enough_scores_the_shift_is_unknown() -> None:
    window = ScoreWindow(size=10)
    assert math.isnan(window.mean())
    assert math.isnan(window.shift())
    window.add(_scores(19))
    assert math.isnan(window.shift())
    window.add(_scores(1))
    assert not math.isnan(window.shift())


@given(st.lists(st.integers(0, 37), max_size=12), st.integers(1, 16))
def test_the_windows_hold_the_first_and_the_last_scores(sizes: list[int], size: int) -> None:
    window = ScoreWindow(size=size, mean_size=size)
    scores = np.arange(sum(sizes), dtype=np.float32)
    for part in np.split(scores, np.cumsum(sizes)[:-1] if sizes else []):
        window.add(part)
    if len(scores):
        assert window.mean() == pytest.approx(float(scores[-size:].mean()))
    if len(scores) >= 2 * size:
        expected = stability_index(scores[:size].astype(float), scores[-size:].astype(float))
        assert window.shift() == pytest.approx(expected)

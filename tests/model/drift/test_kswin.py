"""KSWIN decides as river's does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river.drift import KSWIN

from model.drift.kswin import KswinWindow, critical_distance


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    shift=st.floats(0, 5),
    decimals=st.integers(0, 6),
    sizes=st.sampled_from([(40, 12), (30, 10), (24, 12), (60, 20)]),
    alpha=st.sampled_from([1e-4, 1e-3, 0.01, 0.05]),
)
def test_kswin_fires_at_the_same_values_as_river(
    seed: int, shift: float, decimals: int, sizes: tuple[int, int], alpha: float
) -> None:
    values = np.random.default_rng(seed).normal(size=150)
    values[70:110] += shift
    theirs = KSWIN(alpha=alpha, window_size=sizes[0], stat_size=sizes[1], seed=seed)
    ours = KswinWindow(alpha, *sizes, seed)
    for value in np.round(values, decimals).tolist():
        theirs.update(value)
        ours.update(value)
        assert ours.drift_detected == theirs.drift_detected


def test_a_clear_shift_is_detected() -> None:
    window = KswinWindow(1e-4, 40, 12, 0)
    fired = []
    for value in [*np.random.default_rng(0).normal(size=60), *np.random.default_rng(1).normal(9.0, size=20)]:
        window.update(float(value))
        fired.append(window.drift_detected)
    assert any(fired[60:]) and not any(fired[:60])


@pytest.mark.parametrize("n", [5, 12, 30])
@pytest.mark.parametrize("alpha", [1e-4, 0.01, 0.2])
def test_the_critical_distance_is_that_of_the_exact_test(n: int, alpha: float) -> None:
    from scipy import stats  # type: ignore[import-untyped]  # not on top: its import is the longest of SciPy

    def p_value(k: int) -> float:
        low, high = np.arange(n, dtype=float), np.arange(n, dtype=float) + k  # shifted by k they are k/n apart
        return float(stats.ks_2samp(low, high, method="exact").pvalue)

    k = critical_distance(n, alpha)
    assert k > n or p_value(k) <= alpha
    assert k == 1 or p_value(k - 1) > alpha

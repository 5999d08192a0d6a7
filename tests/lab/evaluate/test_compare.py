"""From measures to a comparison: intervals, pairs, shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lab.evaluate.compare import forgetting, leads_around_return, over_streams, paired, recovered, windows_to_half
from lab.evaluate.measures import Measures
from lab.intervals import interval


def of(auc: float, **changes: Any) -> Measures:
    values = {
        "auc": auc, "request_auc": auc, "ndcg_5": auc, "ndcg_10": auc, "lists": 9,
        "log_loss": 0.5, "normalised_entropy": 0.9, "calibration": 1.0,
        "curve": (auc,) * 20, "request_curve": (auc,) * 20, "log_loss_curve": (0.5,) * 20,
        "drift_auc": auc, "domains": {}, "spans": {},
        "returned": auc, "before": auc, "windowed_auc": auc, "around_return": (),
    }  # fmt: skip
    return Measures(**{**values, **changes})


def test_intervals_follow_students_t_distribution() -> None:
    one = interval([0.1, 0.2, 0.3, float("nan")])
    assert one.mean == pytest.approx(0.2)
    assert one.half_width == pytest.approx(4.303 * 0.1 / np.sqrt(3), rel=1e-3)
    assert (one.low, one.high) == (one.mean - one.half_width, one.mean + one.half_width)
    assert np.isnan(interval([]).mean)
    assert np.isnan(interval([1.0]).half_width)


def test_differences_are_paired_by_seed() -> None:
    runs = {"a": {0: of(0.8), 1: of(0.6)}, "frozen": {0: of(0.7), 1: of(0.5), 2: of(0.1)}}
    one = paired(runs, "a", "frozen")
    assert one.mean == pytest.approx(0.1)
    assert one.half_width == pytest.approx(0.0, abs=1e-9)
    both = over_streams({"s": runs, "t": runs}, "a", "frozen")
    assert both.mean == pytest.approx(0.1)


def test_the_recovered_share_is_relative_to_full_fine_tuning() -> None:
    runs = {"frozen": {0: of(0.70)}, "full": {0: of(0.74)}, "a": {0: of(0.73)}}
    assert recovered(runs, "a") == pytest.approx(0.75)
    assert recovered(runs, "full") == pytest.approx(1)
    assert np.isnan(recovered({**runs, "full": {0: of(0.701)}}, "a"))


def test_forgetting_is_the_lead_lost_when_the_old_taste_returns() -> None:
    runs = {
        "frozen": {0: of(0.7, before=0.8, returned=0.8)},
        "a": {0: of(0.7, before=0.81, returned=0.78)},
    }
    assert forgetting(runs, "a").mean == pytest.approx(0.03)
    assert forgetting(runs, "frozen").mean == pytest.approx(0)


def test_the_figure_around_a_return_is_the_mean_lead_there() -> None:
    runs = {
        "frozen": {0: of(0.7, around_return=(0.8, 0.6)), 1: of(0.7, around_return=(0.8, float("nan")))},
        "a": {0: of(0.7, around_return=(0.82, 0.7)), 1: of(0.7, around_return=(0.80, float("nan")))},
    }
    assert leads_around_return(runs, "a") == pytest.approx((0.01, 0.1))
    assert leads_around_return({"frozen": {0: of(0.7)}, "a": {0: of(0.8)}}, "a") == ()


def test_examples_to_half_are_those_of_the_window_where_the_curve_crosses() -> None:
    still = {0: of(0.7)}
    full = {0: of(0.7, curve=(0.7,) * 8 + (0.8,) * 12)}
    slow = {0: of(0.7, curve=(0.7,) * 12 + (0.8,) * 8)}
    runs = {"frozen": still, "full": full, "slow": slow}
    assert windows_to_half(runs, "full", 5, 20) == 4
    assert windows_to_half(runs, "slow", 5, 20) == 8
    assert windows_to_half(runs, "frozen", 5, 20) is None

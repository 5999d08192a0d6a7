"""Comparison of adapters from the measures of many runs: means, spread, paired differences, recovered share,
forgetting."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lab.evaluate.measures import WINDOWS, Measures, mean_known
from lab.intervals import Interval, interval

FULL, FROZEN = "full", "frozen"

Runs = Mapping[str, Mapping[int, Measures]]
"""Measures of one stream by adapter and seed."""


def paired(runs: Mapping[str, Mapping[int, object]], adapter: str, other: str, measure: str = "auc") -> Interval:
    """Difference of a measure between two adapters on the same seeds."""
    return interval(differences(runs, adapter, other, measure))


def differences(
    runs: Mapping[str, Mapping[int, object]], adapter: str, other: str, measure: str = "auc"
) -> list[float]:
    """The difference of two adapters by seed."""
    seeds = sorted(set(runs.get(adapter, {})) & set(runs.get(other, {})))
    return [getattr(runs[adapter][s], measure) - getattr(runs[other][s], measure) for s in seeds]


def over_streams(streams: Mapping[str, Runs], adapter: str, other: str, measure: str = "auc") -> Interval:
    """The difference averaged over the streams within each seed first, because seeds are the independent
    repetitions."""
    by_seed: dict[int, list[float]] = {}
    for runs in streams.values():
        for seed in set(runs.get(adapter, {})) & set(runs.get(other, {})):
            difference = getattr(runs[adapter][seed], measure) - getattr(runs[other][seed], measure)
            if not np.isnan(difference):
                by_seed.setdefault(seed, []).append(difference)
    return interval([float(np.mean(values)) for values in by_seed.values()])


def recovered(runs: Runs, adapter: str) -> float:
    """`(adapter - frozen) / (full - frozen)` of the AUC inside drift spans, means over the seeds first.

    NaN if full fine-tuning gains less than 0.002, because a share of almost nothing has no meaning.
    """
    gain, most = paired(runs, adapter, FROZEN, "drift_auc").mean, paired(runs, FULL, FROZEN, "drift_auc").mean
    return gain / most if most >= 0.002 else float("nan")


def forgetting(runs: Runs, adapter: str) -> Interval:
    """How much of its lead over frozen an adapter loses when an old taste returns, compared with before the drift."""
    seeds = sorted(set(runs.get(adapter, {})) & set(runs.get(FROZEN, {})))
    lost = []
    for seed in seeds:
        adapted, frozen = runs[adapter][seed], runs[FROZEN][seed]
        lost.append((adapted.before - frozen.before) - (adapted.returned - frozen.returned))
    return interval(lost)


def leads_around_return(runs: Runs, adapter: str) -> tuple[float, ...]:
    """AUC above frozen at each of `AROUND_RETURN`, means over the seeds; empty without a return."""
    seeds = sorted(set(runs.get(adapter, {})) & set(runs.get(FROZEN, {})))
    around = [(runs[adapter][seed].around_return, runs[FROZEN][seed].around_return) for seed in seeds]
    leads = [[adapted - frozen for adapted, frozen in zip(*both, strict=True)] for both in around]
    return tuple(mean_known(values) for values in zip(*leads, strict=True))


def windows_to_half(runs: Runs, adapter: str, start_window: int, end_window: int) -> int | None:
    """Windows after a drift until the lead over frozen reaches half of full fine-tuning's final lead; None if never.

    Curves are means over the seeds, smoothed over three windows; the final lead is that of the last third of the span.
    """
    lead, most = _lead(runs, adapter), _lead(runs, FULL)
    if lead is None or most is None:
        return None
    end = min(end_window, WINDOWS)
    third = max((end - start_window) // 3, 1)
    goal = 0.5 * float(np.mean(most[end - third : end]))
    if goal < 0.001:
        return None
    smooth = np.convolve(lead, np.ones(3) / 3, mode="same")
    reached = np.flatnonzero(smooth[start_window:end] >= goal)
    return int(reached[0]) + 1 if reached.size else None


def _lead(runs: Runs, adapter: str) -> NDArray[np.float64] | None:
    seeds = sorted(set(runs.get(adapter, {})) & set(runs.get(FROZEN, {})))
    if not seeds:
        return None
    curves = [np.array(runs[adapter][s].curve) - np.array(runs[FROZEN][s].curve) for s in seeds]
    return np.asarray(np.mean(curves, axis=0))

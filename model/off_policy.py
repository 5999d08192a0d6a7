"""Off-policy estimates: what share of requests would end in a click on the first place if another policy had chosen it.

The data are explored requests (`model.exploration`): the item a at the first place was drawn with known propensity p,
and r says whether it was clicked. A target policy chooses a with probability pi; its weight is w = pi / p.

    IPS = mean(w r)                                  (Horvitz and Thompson 1952)
    SNIPS = sum(w r) / sum(w)                        (Swaminathan and Joachims 2015)
    DR = mean(E_pi q + w (r - q(a)))                 (Dudik, Langford and Li 2011)
    effective sample size = (sum w)^2 / sum w^2      (Kish 1965)

with a predicted click probability q that must not have learned from r. IPS and DR are unbiased whatever q is, SNIPS up
to a term of order 1 / m. Intervals of 95 % are the jackknife's over hashed buckets of users (`model.uplift`), because
requests of one user depend on each other. `python -m benchmarks --only off_policy` measures bias and coverage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import special  # type: ignore[import-untyped,unused-ignore]

from model.control_users import BUCKETS
from model.uplift import MIN_BUCKETS, MIN_EVENTS, jackknife

MIN_EFFECTIVE = 100.0
"""Least effective sample size for an estimate; with fewer, a few requests decide it."""
_LEVEL = 0.05
_STRICT = 0.001
"""Level at which a mean weight other than 1 counts as proof that the propensities are wrong."""
_ROUNDING = 1e-6

Floats = NDArray[np.float64]
Rows = NDArray[np.bool_] | NDArray[np.int64]
"""A mask of requests, or their numbers."""


@dataclass(frozen=True)
class Explored:
    """Outcomes of m explored requests."""

    click: Floats
    """Whether the item at the first place was clicked, 0 or 1, `(m,)`."""
    propensity: Floats
    """Probability with which it was drawn, `(m,)`."""
    bucket: NDArray[np.int64]
    """The user's bucket, `(m,)`."""

    def select(self, rows: Rows) -> Explored:
        """The requests of `rows`."""
        return Explored(self.click[rows], self.propensity[rows], self.bucket[rows])


@dataclass(frozen=True)
class TargetPolicy:
    """What a policy would have done in the same m requests."""

    chance: Floats
    """Probability that it chooses the logged item, `(m,)`; 0 or 1 if it draws nothing."""
    predicted: Floats
    """Predicted click probability of the logged item, `(m,)`."""
    expected: Floats
    """Predicted click probability of what it chooses, expected over its own draw, `(m,)`."""
    square: Floats
    """Expected squared weight, sum over the items of pi^2 / p, `(m,)`; infinite if it may choose what cannot be
    drawn."""

    def select(self, rows: Rows) -> TargetPolicy:
        """The requests of `rows`."""
        return TargetPolicy(self.chance[rows], self.predicted[rows], self.expected[rows], self.square[rows])


class Estimate(msgspec.Struct, frozen=True):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


class OffPolicy(msgspec.Struct, frozen=True):
    """What explored requests say about one policy."""

    requests: int
    effective: float
    """Effective sample size of the draws, requests."""
    expected: float
    """The effective sample size to be expected before the draws, m / mean(sum_a pi^2 / p), requests."""
    largest: float
    """The largest weight of a request."""
    refused: str | None
    """Why there are no estimates; None if there are."""
    ips: Estimate | None = None
    snips: Estimate | None = None
    dr: Estimate | None = None


def estimate(logged: Explored, target: TargetPolicy) -> OffPolicy:
    """The estimates for one policy, or the reason why there are none."""
    weight = target.chance / logged.propensity
    size = len(weight), _effective(weight), _expected(target), float(weight.max(initial=0.0))
    refused = _refusal(logged, target)
    if refused is not None:
        return OffPolicy(*size, refused)
    ones = np.ones_like(weight)
    return OffPolicy(
        *size,
        None,
        ips=_ratio(weight * logged.click, ones, logged.bucket),
        snips=_ratio(weight * logged.click, weight, logged.bucket),
        dr=_ratio(_doubly_robust(logged, target), ones, logged.bucket),
    )


def difference(logged: Explored, target: TargetPolicy, base: TargetPolicy) -> Estimate | None:
    """DR of `target` minus DR of `base`, request by request; None where `estimate` refuses either of them."""
    if any(_refusal(logged, one) is not None for one in (target, base)):
        return None
    terms = _doubly_robust(logged, target) - _doubly_robust(logged, base)
    return _ratio(terms, np.ones_like(terms), logged.bucket)


def _doubly_robust(logged: Explored, target: TargetPolicy) -> Floats:
    return target.expected + target.chance / logged.propensity * (logged.click - target.predicted)


def _effective(weight: Floats) -> float:
    squares = float((weight**2).sum())
    return float(weight.sum()) ** 2 / squares if squares > 0 else 0.0


def _expected(target: TargetPolicy) -> float:
    return len(target.square) / float(target.square.mean()) if len(target.square) else 0.0


def _refusal(logged: Explored, target: TargetPolicy) -> str | None:
    """Why there is no estimate; None if there is one."""
    if not len(logged.click):
        return "there are no explored requests"
    if lost := int(np.count_nonzero(np.isinf(target.square))):
        return f"no support: in {lost:,} requests it may choose what could not be drawn"
    weight = target.chance / logged.propensity
    few = _too_few(logged, target, weight)
    if few is not None:
        return few
    mean = _ratio(weight, np.ones_like(weight), logged.bucket, _STRICT)
    if not mean.low - _ROUNDING <= 1.0 <= mean.high + _ROUNDING:
        return f"wrong propensities: the mean weight is {mean.value:.3f}, and 1 is expected"
    return None


def _too_few(logged: Explored, target: TargetPolicy, weight: Floats) -> str | None:
    # Not by what the draws gave: that would select logs without large weights, which overrate the policy.
    expected = _expected(target)
    if expected < MIN_EFFECTIVE:
        return f"too few: an effective sample of {expected:.0f} is expected, at least {MIN_EFFECTIVE:.0f} is needed"
    used = weight > 0
    clicks, buckets = int(logged.click[used].sum()), len(np.unique(logged.bucket[used]))
    if clicks < MIN_EVENTS:
        return f"too few: {clicks} clicks on what it chooses, at least {MIN_EVENTS} are needed"
    if buckets < MIN_BUCKETS:
        return f"too few users: they fill {buckets} buckets, at least {MIN_BUCKETS} are needed"
    return None


def _ratio(above: Floats, below: Floats, bucket: NDArray[np.int64], level: float = _LEVEL) -> Estimate:
    """Ratio of two totals with its interval by user."""
    totals = [np.bincount(bucket, weights=part, minlength=BUCKETS) for part in (above, below)]
    value, variance, freedom = jackknife(*totals)
    half = float(special.stdtrit(freedom, 1.0 - level / 2.0)) * math.sqrt(variance)
    return Estimate(value, value - half, value + half)

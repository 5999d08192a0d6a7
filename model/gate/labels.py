"""Tests whether labels are as expected: the label rate of a domain, and the order of the labels (ours).

The expectation is the frozen model's probability, corrected by an offset per domain. The offset is learned slowly and
only from labels that no test speaks against, so a sudden change does not move it. Three changes are tested, each by a
CUSUM (Page, Continuous inspection schemes, 1954) of log likelihood ratios against the expectation:

    few     odds of a click `odds` times smaller
    many    odds of a click `odds` times larger
    turned  clicks in the opposite order of the frozen model's logits, against no order

One user's examples depend on each other, so a user's log likelihood ratio is divided by `1 + spread v`, with `v` the
variance of the user's examples if they were independent and `spread` the variance of a normal effect per user. Many
users who agree are evidence and one user is not, whether the examples come in one micro-batch or in twenty
(`_by_one_user`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.gate.scored_examples import ScoredExamples, Strata
from model.gate.shares import DecayedMass, key_of

Doubles = NDArray[np.float64]
KINDS = ("few", "many", "turned")
_SPREAD_RATE, _SPREAD_ORDER = 0.8, 0.25
_TURNED = -0.5
"""Slope of the labels on the frozen logit in a turned order; correct labels have about 1."""
_HALF_LIFE = 5_000.0
"""Half-life of the offsets, in examples of the domain."""
_PRIOR = 20.0
"""Precision of an offset before any example."""
_FLOOR, _LEAST = 1e-4, 1e-9
_USERS_HALF_LIFE = 500.0
"""Half-life, in examples of the stream, of what a user brought in earlier micro-batches."""
_VARIANCE = 0.16
"""Assumed variance of one such example's label."""
SUSPECT = 3.0
"""Nats at which labels are in doubt: odds of one in twenty."""
ALARM = 9.0
"""Nats at which a change is certain: odds of one in eight thousand, before dividing among the strata."""
_HIGHEST = 1.5
"""Cap of the CUSUM as a multiple of the alarm; without it, the CUSUM would take as long to fall as it took to rise."""


@dataclass(frozen=True)
class LabelEvidence:
    """Evidence in one micro-batch."""

    ratio: Doubles
    """Log likelihood ratio of each of the three changes, nats, `(strata, 3)`; all other fields are `(strata,)`."""
    order: Doubles
    """Log likelihood ratio of the frozen model's order against no order, nats."""
    error: Doubles
    """Sum of label minus expectation."""
    variance: Doubles
    """Sum of `e (1 - e)`, with `e` the expected probability."""
    clicks: Doubles
    examples: Doubles


class _ByUser:
    """Sums over the examples of one user, in every stratum: `(strata, n)` values to `(strata, users)`."""

    def __init__(self, seen: ScoredExamples, weight: Doubles, inside: NDArray[np.bool_]) -> None:
        _, self._first, of_request = np.unique(np.asarray(seen.user), return_index=True, return_inverse=True)
        self.user = of_request[seen.request]
        self.member: Doubles = inside[:, seen.request] * weight
        self._shape = (len(inside), int(of_request.max()) + 1)
        self._cell = (np.arange(len(inside))[:, None] * self._shape[1] + self.user).ravel()

    def __call__(self, values: Doubles) -> Doubles:
        weighed = (self.member * values).ravel()
        return np.bincount(self._cell, weighed, self._shape[0] * self._shape[1]).reshape(self._shape).astype(np.float64)

    def of_user(self, values: Doubles) -> Doubles:
        """Picks one value per user `(users,)` from values per request `(r,)` that are equal for a user's requests."""
        return values[self._first]

    def mean(self, values: Doubles) -> Doubles:
        """Mean over the examples of each example's user, `(strata, n)`."""
        count = np.maximum(self(np.ones_like(values)), _LEAST)
        return np.asarray((self(values) / count)[:, self.user])


def measure(
    seen: ScoredExamples, weight: Doubles, inside: NDArray[np.bool_], offset: Doubles, odds: float, *, before: Doubles
) -> LabelEvidence:
    """The evidence in a micro-batch whose examples weigh `weight` `(n,)`; `offset` `(strata,)` corrects the
    expectation.

    `before` `(r,)` is the number of examples that the request's user lately brought in other micro-batches.
    """
    summed = _ByUser(seen, weight, inside)
    p = np.clip(1.0 / (1.0 + np.exp(-(seen.frozen + offset[:, None]))), _FLOOR, 1 - _FLOOR)
    variance = summed(p * (1 - p))
    had = _VARIANCE * summed.of_user(before)
    ratios = []
    for factor in (1.0 / odds, odds):
        grown = 1 - p + factor * p  # odds times factor turn p into factor p / grown, and 1 - p into (1 - p) / grown
        ratio = summed(seen.label * np.log(factor) - np.log(grown))
        ratios.append(_by_one_user(ratio, variance, had, _SPREAD_RATE).sum(axis=1))
    label = np.broadcast_to(seen.label, p.shape)
    rate = summed.mean(label)
    centred = seen.frozen - summed.mean(np.broadcast_to(seen.frozen, p.shape))
    score, curvature = summed((label - rate) * centred), summed(rate * (1 - rate) * centred**2)
    turned, order = (
        _by_one_user(slope * score - slope**2 * curvature / 2, curvature, had, _SPREAD_ORDER).sum(axis=1)
        for slope in (_TURNED, -_TURNED)
    )
    return LabelEvidence(
        ratio=np.stack([*ratios, turned], axis=1),
        order=order,
        error=(summed.member * (label - p)).sum(axis=1),
        variance=variance.sum(axis=1),
        clicks=(summed.member * label).sum(axis=1),
        examples=summed.member.sum(axis=1),
    )


def _by_one_user(ratio: Doubles, variance: Doubles, had: Doubles, spread: float) -> Doubles:
    """Evidence that a user's examples add to those of earlier micro-batches, nats (docs/decisions/0094).

    A user with `c` nats per unit of variance counts as `c V / (1 + spread V)` in all. From `had` to `had + variance`
    that grows by `c variance / ((1 + spread had) (1 + spread (had + variance)))`.
    """
    return ratio / ((1 + spread * had) * (1 + spread * (had + variance)))


class LabelWatch:
    """The expectation of one group's labels, and the CUSUM of each change."""

    def __init__(self, strata: Strata, odds: float) -> None:
        count = len(strata)
        self._odds = odds
        self.offset: Doubles = np.zeros(count)
        """Correction of the expected logit, by stratum."""
        self._memory: Doubles = np.full(count, _PRIOR)
        self.suspicion: Doubles = np.zeros((count, len(KINDS)))
        """CUSUM, nats, capped at `_HIGHEST` times the alarm, so that it falls soon once labels are correct."""
        self._users = DecayedMass(_USERS_HALF_LIFE)
        self.alarm = ALARM + float(np.log(count))
        """Nats at which a change is certain."""

    def measure(self, seen: ScoredExamples, weight: Doubles, inside: NDArray[np.bool_]) -> LabelEvidence:
        """Returns the evidence in a micro-batch and adds it to the CUSUM."""
        sizes = np.bincount(seen.request).tolist()
        keys = [key_of(user) for user in seen.user]
        self._users.pass_by(len(seen.label))
        before = np.array([self._users[key] for key in keys])
        for key, size in zip(keys, sizes, strict=True):
            self._users.add(key, size)
        evidence = measure(seen, weight, inside, self.offset, self._odds, before=before)
        self.suspicion = np.clip(self.suspicion + evidence.ratio, 0.0, _HIGHEST * self.alarm)
        return evidence

    def believe(self, evidence: LabelEvidence, believed: Doubles) -> None:
        """Updates the offset of the strata that are `believed` (1, else 0), `(strata,)`."""
        kept = 2.0 ** (-believed * evidence.examples / _HALF_LIFE)
        self._memory = np.maximum(kept * self._memory + believed * evidence.variance, _PRIOR)
        bound = 3.0 * np.sqrt(evidence.variance)
        self.offset = self.offset + believed * np.clip(evidence.error, -bound, bound) / self._memory

    def accept(self, stratum: int, examples: float, clicks: float, expected: float) -> None:
        """Sets the expected rate to that of the last `examples`; if the stratum is the group, all strata move."""
        least = 0.5 / examples
        observed, before = (np.clip(value / examples, least, 1 - least) for value in (clicks, expected))
        shift = np.log(observed / (1 - observed)) - np.log(before / (1 - before))
        moved = slice(None) if stratum == 0 else slice(stratum, stratum + 1)
        self.offset[moved] += shift
        self.suspicion[moved] = 0.0

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        arrays = {name: getattr(self, name).tobytes() for name in ("offset", "_memory", "suspicion")}
        return {"arrays": arrays, "users": self._users.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._users.load(state["users"])
        for name, data in state["arrays"].items():
            setattr(self, name, np.frombuffer(data, dtype=np.float64).reshape(getattr(self, name).shape).copy())

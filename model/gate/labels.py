"""Whether labels are what they should be: a domain's label rate against its expectation, and their order (ours).

The expectation is the frozen model's probability, corrected by an offset per domain that is learned slowly and only
from labels that nothing speaks against, so a sudden change does not move it. Three changes are watched, each by a CUSUM
(Page, Continuous inspection schemes, 1954) of log likelihood ratios against the expectation:

    few     odds of a click `odds` times smaller
    many    odds of a click `odds` times larger
    turned  clicks in the opposite order of the frozen model's logits, against none

Examples of one user hang together, so a user's log likelihood ratio is divided by `1 + spread v`, `v` being what the
user's examples would vary without that and `spread` the variance of a normal effect per user: many users of one opinion
are evidence, one user is not, whether the examples come in one micro-batch or in twenty (`_by_one_user`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.gate.seen import Seen, Strata
from model.gate.shares import DecayedMass, key_of

Doubles = NDArray[np.float64]
KINDS = ("few", "many", "turned")
_SPREAD_RATE, _SPREAD_ORDER = 0.8, 0.25
_TURNED = -0.5
"""Slope of the labels on the frozen logit that speaks for a wrong order: right ones have about 1."""
_HALF_LIFE = 5_000.0
"""Of the offsets' memory, in examples of the domain."""
_PRIOR = 20.0
"""Precision of an offset before any example."""
_FLOOR, _LEAST = 1e-4, 1e-9
_USERS_HALF_LIFE = 500.0
"""Of what a user has brought in earlier micro-batches, in examples of the stream."""
_VARIANCE = 0.16
"""Of one such example, about."""
SUSPECT = 3.0
"""Nats: one chance in twenty."""
ALARM = 9.0
"""Nats: one chance in eight thousand, divided among the strata."""
_HIGHEST = 1.5
"""Of the suspicion, in alarms: what is far above it would take as long to fall."""


@dataclass(frozen=True)
class LabelEvidence:
    """What one micro-batch says."""

    ratio: Doubles
    """Log likelihood ratio of each change, nats, `(strata, 3)`; all else `(strata,)`."""
    order: Doubles
    """Log likelihood ratio of the frozen model's order against none, nats."""
    error: Doubles
    """Sum of label minus expectation."""
    variance: Doubles
    """Sum of `e (1 - e)`, e being the expectation."""
    clicks: Doubles
    examples: Doubles


class _ByUser:
    """Sums over the examples of one user, in every stratum: `(strata, n)` values to `(strata, users)`."""

    def __init__(self, seen: Seen, weight: Doubles, inside: NDArray[np.bool_]) -> None:
        _, self._first, of_request = np.unique(np.asarray(seen.user), return_index=True, return_inverse=True)
        self.user = of_request[seen.request]
        self.member: Doubles = inside[:, seen.request] * weight
        self._shape = (len(inside), int(of_request.max()) + 1)
        self._cell = (np.arange(len(inside))[:, None] * self._shape[1] + self.user).ravel()

    def __call__(self, values: Doubles) -> Doubles:
        weighed = (self.member * values).ravel()
        return np.bincount(self._cell, weighed, self._shape[0] * self._shape[1]).reshape(self._shape).astype(np.float64)

    def of_user(self, values: Doubles) -> Doubles:
        """Takes one value per request `(r,)`, the same for all requests of a user; returns one per user, `(users,)`."""
        return values[self._first]

    def mean(self, values: Doubles) -> Doubles:
        """Each example's user's mean, `(strata, n)`."""
        count = np.maximum(self(np.ones_like(values)), _LEAST)
        return np.asarray((self(values) / count)[:, self.user])


def measure(
    seen: Seen, weight: Doubles, inside: NDArray[np.bool_], offset: Doubles, odds: float, *, before: Doubles
) -> LabelEvidence:
    """What a micro-batch is evidence of, its examples weighing `weight` `(n,)`; `offset` `(strata,)` is as expected.

    `before` `(r,)` are the examples that the request's user has lately brought in other micro-batches.
    """
    summed = _ByUser(seen, weight, inside)
    p = np.clip(1.0 / (1.0 + np.exp(-(seen.frozen + offset[:, None]))), _FLOOR, 1 - _FLOOR)
    variance = summed(p * (1 - p))
    had = _VARIANCE * summed.of_user(before)
    ratios = []
    for factor in (1.0 / odds, odds):
        grown = 1 - p + factor * p  # odds times factor: p becomes factor p / grown, 1 - p becomes (1 - p) / grown
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
    """What a user's ratio of this micro-batch adds to what the user's earlier ones gave, nats (docs/decisions/0094).

    The whole of a user who brings `c` nats for each unit of variance is `c V / (1 + spread V)`; from `had` to
    `had + variance` it grows by `c variance / ((1 + spread had) (1 + spread (had + variance)))`.
    """
    return ratio / ((1 + spread * had) * (1 + spread * (had + variance)))


class LabelWatch:
    """What the labels of one group have been like."""

    def __init__(self, strata: Strata, odds: float) -> None:
        count = len(strata)
        self._odds = odds
        self.offset: Doubles = np.zeros(count)
        """Of the logits of the expectation, by stratum."""
        self._memory: Doubles = np.full(count, _PRIOR)
        self.suspicion: Doubles = np.zeros((count, len(KINDS)))
        """CUSUM, nats, at most `_HIGHEST` times the alarm, so that it falls soon once labels are sound."""
        self._users = DecayedMass(_USERS_HALF_LIFE)
        self.alarm = ALARM + float(np.log(count))
        """Nats at which a change is taken for one."""

    def measure(self, seen: Seen, weight: Doubles, inside: NDArray[np.bool_]) -> LabelEvidence:
        """Says what a micro-batch is evidence of, and adds it to the suspicion."""
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
        """Moves the expectation of the strata that are `believed` (1, else 0), `(strata,)`."""
        kept = 2.0 ** (-believed * evidence.examples / _HALF_LIFE)
        self._memory = np.maximum(kept * self._memory + believed * evidence.variance, _PRIOR)
        bound = 3.0 * np.sqrt(evidence.variance)
        self.offset = self.offset + believed * np.clip(evidence.error, -bound, bound) / self._memory

    def accept(self, stratum: int, examples: float, clicks: float, expected: float) -> None:
        """Takes the rate of the last `examples` for the expectation; that of the group moves all of its strata."""
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

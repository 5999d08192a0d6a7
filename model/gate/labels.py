"""Whether labels are what they should be: a domain's label rate against its expectation, and their order (ours).

The expectation is the frozen model's probability, corrected by an offset per domain that is learned slowly and only from
labels that nothing speaks against, so a sudden change does not move it. Three changes are watched, each by a CUSUM
(Page, Continuous inspection schemes, 1954) of log likelihood ratios against the expectation:

    few     odds of a click `odds` times smaller
    many    odds of a click `odds` times larger
    turned  clicks in the opposite order of the frozen model's logits, against none

Examples of one user hang together, so a user's log likelihood ratio is divided by `1 + SPREAD v`, `v` being what his
examples would vary without that (a normal effect per user, its variance `SPREAD`): many users of one opinion are
evidence, one user is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.gate.seen import Seen, Strata

Doubles = NDArray[np.float64]
KINDS = ("few", "many", "turned")
_SPREAD = np.array([0.5, 0.5, 0.25])
_TURNED = -0.5
"""Slope of the labels on the frozen logit that speaks for a wrong order: right ones have about 1."""
_HALF_LIFE = 5_000.0
"""Of the offsets' memory, in examples of the domain."""
_PRIOR = 20.0
"""Precision of an offset before any example."""
_FLOOR = 1e-4
SUSPECT = 3.0
"""Nats: one chance in twenty."""
ALARM = 9.0
"""Nats: one chance in eight thousand, divided among the strata."""


@dataclass(frozen=True)
class LabelEvidence:
    """What one micro-batch says."""

    ratio: Doubles
    """Log likelihood ratio of each change, nats, `(strata, 3)`."""
    error: Doubles
    """Sum of label minus expectation, `(strata,)`."""
    variance: Doubles
    """Sum of `e (1 - e)`, `(strata,)`."""
    order: Doubles
    """Log likelihood ratio of the frozen model's order against none, nats, `(strata,)`."""
    clicks: Doubles
    examples: Doubles


def measure(seen: Seen, weight: Doubles, inside: NDArray[np.bool_], offset: Doubles, odds: float) -> LabelEvidence:
    """The evidence of a micro-batch, its examples weighing `weight` `(n,)`; `offset` `(strata,)` is the expectation's."""
    _, user = np.unique(np.asarray(seen.user), return_inverse=True)
    user = user[seen.request]
    users = int(user.max()) + 1
    member = inside[:, seen.request] * weight  # (strata, n)
    p = np.clip(1.0 / (1.0 + np.exp(-(seen.frozen[None] + offset[:, None]))), _FLOOR, 1 - _FLOOR)

    def summed(values: Doubles) -> Doubles:
        """By user, `(strata, users)`."""
        strata = np.arange(len(values))[:, None]
        cell = (strata * users + user[None]).ravel()
        return np.bincount(cell, values.ravel(), minlength=len(values) * users).reshape(len(values), users)

    variance = summed(member * p * (1 - p))
    ratios = []
    for factor, spread in ((1.0 / odds, _SPREAD[0]), (odds, _SPREAD[1])):
        other = factor * p / (1 - p + factor * p)
        one = seen.label * np.log(other / p) + (1 - seen.label) * np.log((1 - other) / (1 - p))
        ratios.append((summed(member * one) / (1 + spread * variance)).sum(axis=1))
    count = np.maximum(summed(member), 1e-9)
    rate = summed(member * seen.label) / count
    centred = seen.frozen - np.take_along_axis(summed(member * seen.frozen) / count, user[None], axis=1)
    own = np.take_along_axis(rate, user[None], axis=1)
    score = summed(member * (seen.label - own) * centred)
    curvature = summed(member * own * (1 - own) * centred**2)
    damped = 1 + _SPREAD[2] * curvature
    turned = ((_TURNED * score - _TURNED**2 * curvature / 2) / damped).sum(axis=1)
    order = ((-_TURNED * score - _TURNED**2 * curvature / 2) / damped).sum(axis=1)
    return LabelEvidence(
        np.stack([*ratios, turned], axis=1),
        (member * (seen.label - p)).sum(axis=1),
        variance.sum(axis=1),
        order,
        (member * seen.label).sum(axis=1),
        member.sum(axis=1),
    )


class LabelWatch:
    """What the labels of one group have been like."""

    def __init__(self, strata: Strata, odds: float) -> None:
        count = len(strata)
        self._odds = odds
        self.offset: Doubles = np.zeros(count)
        """Of the logits of the expectation, by stratum."""
        self._memory: Doubles = np.full(count, _PRIOR)
        self.suspicion: Doubles = np.zeros((count, len(KINDS)))
        """CUSUM, nats, at most twice the alarm."""
        self.alarm = ALARM + np.log(count)
        """Nats at which a change is taken for one."""

    def measure(self, seen: Seen, weight: Doubles, inside: NDArray[np.bool_]) -> LabelEvidence:
        """Says what a micro-batch is evidence of, and adds it to the suspicion."""
        evidence = measure(seen, weight, inside, self.offset, self._odds)
        self.suspicion = np.clip(self.suspicion + evidence.ratio, 0.0, 1.5 * self.alarm)
        return evidence

    def believe(self, evidence: LabelEvidence, believed: Doubles) -> None:
        """Moves the expectation of the strata that are `believed` (1, else 0), `(strata,)`."""
        kept = 2.0 ** (-believed * evidence.examples / _HALF_LIFE)
        self._memory = np.maximum(kept * self._memory + believed * evidence.variance, _PRIOR)
        bound = 3.0 * np.sqrt(evidence.variance)
        self.offset = self.offset + believed * np.clip(evidence.error, -bound, bound) / self._memory

    def accept(self, stratum: int, examples: float, clicks: float, expected: float) -> None:
        """Takes the rate of the last `examples` for the expectation; that of the group moves all of its strata."""
        observed, before = (np.clip(value / examples, 0.5 / examples, 1 - 0.5 / examples) for value in (clicks, expected))
        shift = np.log(observed / (1 - observed)) - np.log(before / (1 - before))
        moved = slice(None) if stratum == 0 else slice(stratum, stratum + 1)
        self.offset[moved] += shift
        self.suspicion[moved] = 0.0

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        names = ("offset", "_memory", "suspicion")
        return {name: getattr(self, name).tobytes() for name in names}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        for name, data in state.items():
            setattr(self, name, np.frombuffer(data, dtype=np.float64).reshape(getattr(self, name).shape).copy())

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

from model.gate.decayed_mass import DecayedMass
from model.gate.scored_examples import ScoredExamples, Strata, runs

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


@dataclass(frozen=True)
class LabelEvidence:
    """Evidence in one micro-batch."""

    ratio: Doubles
    """Log likelihood ratio of each of the three changes, nats, `(strata, 3)`; all other fields are `(strata,)`."""
    order: Doubles
    """Log likelihood ratio of the frozen model's order against no order, nats."""
    variance: Doubles
    """Sum of `e (1 - e)`, with `e` the expected probability."""
    error: Doubles
    """Sum of label minus expectation."""
    clicks: Doubles
    examples: Doubles


class _Memberships:
    """Examples by stratum and user: one membership is one example in one of its strata.

    An example belongs to four strata at most, so memberships `m` are far fewer than cells of strata by examples.
    They are ordered by stratum, then by user; a *pair* is the memberships of one user in one stratum.
    """

    def __init__(self, seen: ScoredExamples, weight: Doubles, inside: NDArray[np.bool_]) -> None:
        users, user = seen.users
        by_user = np.argsort(user, kind="stable")
        stratum, order = np.nonzero(inside[:, by_user])
        request = by_user[order]
        # From requests in strata to their examples: each begins where the one before it ended.
        starts, sizes = (part[request] for part in seen.requests_at)
        ends = np.cumsum(sizes)
        self.example = np.repeat(starts - ends + sizes, sizes) + np.arange(int(sizes.sum()))
        self.stratum = np.repeat(stratum, sizes)
        self.weight: Doubles = weight[self.example]
        first, _ = runs(stratum * len(users) + user[request])
        self._starts = (ends - sizes)[first]
        self._sizes = np.add.reduceat(sizes, first)
        self._stratum_of_pair = stratum[first]
        self.request_of_pair = request[first]
        """A request of each pair's user, `(pairs,)`."""
        self._strata = len(inside)

    def by_pair(self, *values: Doubles) -> Doubles:
        """Weighted sums over each pair, `(k, pairs)`, of k arrays `(m,)`."""
        return np.asarray(np.add.reduceat(np.stack(values) * self.weight, self._starts, axis=1))

    def of_pair(self, values: Doubles) -> Doubles:
        """The value of each membership's pair, `(k, m)`, from values `(k, pairs)`."""
        return np.repeat(values, self._sizes, axis=1)

    def by_stratum(self, values: Doubles) -> Doubles:
        """Sums over the pairs of each stratum, `(strata, k)`, from values `(k, pairs)`."""
        starts, _ = runs(self._stratum_of_pair)
        sums = np.zeros((self._strata, len(values)))
        sums[self._stratum_of_pair[starts]] = np.add.reduceat(values, starts, axis=1).T
        return sums


def measure(
    seen: ScoredExamples, weight: Doubles, inside: NDArray[np.bool_], offset: Doubles, odds: float, *, before: Doubles
) -> LabelEvidence:
    """The evidence in a micro-batch whose examples weigh `weight` `(n,)`; `offset` `(strata,)` corrects the
    expectation.

    `before` `(r,)` is the number of examples that the request's user lately brought in other micro-batches.
    """
    of = _Memberships(seen, weight, inside)
    label, frozen = seen.label[of.example], seen.frozen[of.example]
    p = np.minimum(np.maximum(1.0 / (1.0 + np.exp(-(frozen + offset[of.stratum]))), _FLOOR), 1 - _FLOOR)
    ratios = []
    for factor in (1.0 / odds, odds):
        grown = 1 - p + factor * p  # odds times factor turn p into factor p / grown, and 1 - p into (1 - p) / grown
        ratios.append(label * np.log(factor) - np.log(grown))
    sums = of.by_pair(*ratios, p * (1 - p), label - p, label, np.ones_like(label), frozen)
    variance, _, clicks, examples, frozen_sum = sums[2:]
    rate, middle = of.of_pair(np.stack([clicks, frozen_sum]) / np.maximum(examples, _LEAST))
    centred = frozen - middle
    score, curvature = of.by_pair((label - rate) * centred, rate * (1 - rate) * centred**2)
    turned_order = np.stack([slope * score - slope**2 * curvature / 2 for slope in (_TURNED, -_TURNED)])
    had = _VARIANCE * before[of.request_of_pair]
    nats = np.concatenate(
        [
            _by_one_user(sums[:2], variance, had, _SPREAD_RATE),
            _by_one_user(turned_order, curvature, had, _SPREAD_ORDER),
        ]
    )
    total = of.by_stratum(np.concatenate([nats, sums[2:6]]))
    return LabelEvidence(total[:, :3], *total[:, 3:].T)


def _by_one_user(ratio: Doubles, variance: Doubles, had: Doubles, spread: float) -> Doubles:
    """Evidence that a user's examples add to those of earlier micro-batches, nats (docs/decisions/0094).

    A user with `c` nats per unit of variance counts as `c V / (1 + spread V)` in all. From `had` to `had + variance`
    that grows by `c variance / ((1 + spread had) (1 + spread (had + variance)))`.
    """
    return ratio / ((1 + spread * had) * (1 + spread * (had + variance)))


class LabelTest:
    """The expectation of one group's labels, and the CUSUM of each change."""

    def __init__(self, strata: Strata, odds: float) -> None:
        count = len(strata)
        self._odds = odds
        self.offset: Doubles = np.zeros(count)
        """Correction of the expected logit, by stratum."""
        self._memory: Doubles = np.full(count, _PRIOR)
        self.suspicion: Doubles = np.zeros((count, len(KINDS)))
        """CUSUM, nats. It stops at the alarm: correct labels need as much evidence as the alarm did, however long the
        change lasted."""
        self._users = DecayedMass(_USERS_HALF_LIFE)
        self.alarm = ALARM + float(np.log(count))
        """Nats at which a change is certain."""

    def measure(self, seen: ScoredExamples, weight: Doubles, inside: NDArray[np.bool_]) -> LabelEvidence:
        """Returns the evidence in a micro-batch and adds it to the CUSUM."""
        self._users.pass_by(len(seen.label))
        slots, (_, sizes) = self._users.slots(seen.user), seen.requests_at
        before = self._users.at(slots)
        self._users.add(slots, sizes.astype(np.float64))
        evidence = measure(seen, weight, inside, self.offset, self._odds, before=before)
        self.suspicion = np.clip(self.suspicion + evidence.ratio, 0.0, self.alarm)
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

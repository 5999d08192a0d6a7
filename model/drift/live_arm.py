"""Detects that the live arm does harm where the frozen arm does not: the kernel is broken (ours).

    W <- max(0, W + sum over the examples of (loss of live - loss of frozen - 0.02)),   clipped to 3 nats apart

The difference is a log likelihood ratio of the frozen arm against the live one, so while the live arm's probabilities
are right it takes at least `exp(A)` examples on average until `W` reaches `A`. The frozen arm is taken as it was
expected to be before any drift, because a kernel that is worse than that is of no use. The 0.02 nats that are
subtracted allow what a sound kernel may lose while a taste that it learned goes away; the gate finds smaller harm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.drift.windows import Decaying
from model.gate.scored_examples import Doubles

_CLIP, _TOLERATED = 3.0, 0.02
_HALF_LIFE = 600.0
_FINE, _LEAST = 0.003, 500.0
"""Nats above the frozen arm at which a live arm counts as mended, and the least examples before that is said."""
_AS_MUCH = 0.75


class LiveArm:
    """Loss of the live arm against the frozen one, by stratum."""

    def __init__(self, facet: Sequence[int], false_alarm_examples: float) -> None:
        count = len(facet)
        self._facet = np.asarray(facet)
        self.alarm = math.log(false_alarm_examples) + math.log(count)
        self.evidence: Doubles = np.zeros(count)
        """W, nats."""
        self._onset: Doubles = np.full(count, np.nan)
        self.since: Doubles = np.full(count, np.nan)
        """Event time since which a stratum's kernel is broken, s; NaN if it is not."""
        self._examples: Doubles = np.zeros(count)
        self._window = Decaying(count, _HALF_LIFE, {"count": (), "gap": ()})

    @property
    def gap(self) -> Doubles:
        """Loss of live above frozen on recent examples, nats, `(strata,)`; NaN without examples."""
        sums = self._window.sums
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(sums["count"] > 0, sums["gap"] / sums["count"], np.nan)

    def take(self, live: Doubles, frozen: Doubles, member: Doubles, judged: NDArray[np.bool_], time: float) -> None:
        """Takes both arms' losses `(n,)`; the evidence of strata that are not `judged` is cleared."""
        gap = np.minimum(np.maximum(live - frozen, -_CLIP), _CLIP)
        sums = member @ np.array([np.ones_like(gap), gap]).T
        self._window.add(sums[:, 0], {"count": sums[:, 0], "gap": sums[:, 1]})
        before = self.evidence
        after = before + sums[:, 1] - _TOLERATED * sums[:, 0]
        self.evidence = judged * np.minimum(np.maximum(after, 0.0), 2 * self.alarm)
        self._onset[(before <= 0) & (self.evidence > 0)] = time
        self._examples += sums[:, 0]
        self._decide()
        if not np.isnan(self.since[0]):
            self.evidence[1:] = 0.0  # a kernel broken for the whole group says nothing about single values

    def _decide(self) -> None:
        """Ends faults whose kernel is good again; begins at most one, of the whole group if that explains it."""
        broken, open_to = ~np.isnan(self.since), self.evidence
        if broken.any():
            mended = broken & (self._examples >= _LEAST) & (np.nan_to_num(self.gap) <= _FINE)
            self.since[mended] = np.nan
            self.evidence[mended] = 0.0
            open_to = np.where(broken | bool(broken[0]), 0.0, self.evidence)
        stratum = int(open_to.argmax())
        if open_to[stratum] >= self.alarm:
            self.break_down(0 if self.evidence[0] >= _AS_MUCH * open_to[stratum] else stratum, self._onset[stratum])

    def break_down(self, stratum: int, since: float) -> None:
        """Records that a stratum's kernel is broken, and clears the evidence of strata that share its examples."""
        if np.isnan(self.since[stratum]):
            self.since[stratum], self._examples[stratum] = since, 0.0
            self.evidence[self._facet != self._facet[stratum]] = 0.0

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {"window": self._window.state(), **{name: getattr(self, name).tobytes() for name in _ARRAYS}}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._window.load(state["window"])
        for name in _ARRAYS:
            setattr(self, name, np.frombuffer(state[name]).copy())


_ARRAYS = ("evidence", "_onset", "since", "_examples")

"""The expected click probability: the frozen model's, corrected by an offset and a slope in every stratum (ours).

    logit = z + sum over the strata of the example of (a + b (z - centre))
with `z` the frozen logit. The corrections are a logistic regression, updated by one Newton step per block of examples
that no test speaks against; a prior precision keeps those of small strata near zero. Once a stratum is well known its
steps are scaled down, because otherwise a slow drift would become the expectation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.gate.scored_examples import Doubles

FLOOR = 1e-4
_SUREST = math.log((1 - FLOOR) / FLOOR)
_PRIOR_GROUP, _PRIOR_VALUE = np.array([20.0, 0.0, 200.0]), np.array([60.0, 0.0, 200.0])
"""Entries aa, ab, bb of the precision of (a, b). The group's offset is hardly known before the stream begins, because
late clicks are missing from the labels that it would be read from."""
_REFIT = np.array([5.0, 0.0, 5.0])
_KNOWN, _SLOW = 400.0, 0.1
"""Information on the offset, about 2 700 examples, from which a stratum counts as known; share of later steps taken."""
_OVERLAP = 3.0
"""Number of facets that share an example; each takes its part of the remaining residual."""
_MOST = 20_000.0


class Expectation:
    """Corrections of the frozen logit by stratum, and the examples seen since the last step."""

    def __init__(self, facet: Sequence[int], centre: float, *, slow: float = _SLOW) -> None:
        """`facet` of each stratum, 0 for the group; `slow` scales the steps of known strata."""
        self._facet, self._centre, self._slow = np.asarray(facet), centre, slow
        self._most = _MOST if slow < 1 else _KNOWN
        count = len(self._facet)
        self.theta: Doubles = np.zeros((count, 2))
        """Offset and slope of each stratum, `(strata, 2)`."""
        self._precision: Doubles = np.tile(_PRIOR_VALUE, (count, 1))
        self._precision[0] = _PRIOR_GROUP
        self._gradient: Doubles = np.zeros((count, 2))
        self._information: Doubles = np.zeros((count, 3))

    def logit(self, member: Doubles, z: Doubles) -> Doubles:
        """Expected logits `(n,)`; `member` `(strata, n)` is above 0 where an example belongs to a stratum."""
        return self.logit_of(self.theta, member, z)

    def logit_of(self, theta: Doubles, member: Doubles, z: Doubles) -> Doubles:
        """Expected logits under other offsets and slopes `(strata, 2)`."""
        summed = theta.T @ (member > 0)
        return np.asarray(z + summed[0] + summed[1] * (z - self._centre))

    def correction(self, theta: Doubles, z: Doubles) -> Doubles:
        """The correction by one stratum's offset and slope, `(n,)`."""
        return np.asarray(theta[0] + theta[1] * (z - self._centre))

    def see(self, member: Doubles, z: Doubles, p: Doubles, label: Doubles) -> None:
        """Collects examples whose click probability was expected to be `p`; `believe` takes the step."""
        centred, parts = z - self._centre, np.empty((5, len(z)))
        np.subtract(label, p, out=parts[0])
        np.multiply(p, 1 - p, out=parts[2])
        for part in (0, 2, 3):  # the columns that are multiplied with the logit
            np.multiply(parts[part], centred, out=parts[part + 1])
        sums = member @ parts.T
        self._gradient += sums[:, :2]
        self._information += sums[:, 2:]

    def believe(self, calm: NDArray[np.bool_]) -> None:
        """Takes the Newton step of the strata that are `calm`, the group first, from the collected examples."""
        if calm[0]:
            step = self._move(slice(1), 1.0)[0]
            self._gradient[1:] -= _times(self._information[1:], step)
        if calm[1:].all():
            self._move(slice(1, None), _OVERLAP)
        else:
            self._move(calm & (self._facet > 0), _OVERLAP)

    def _move(self, moved: slice | NDArray[np.bool_], overlap: float) -> Doubles:
        """Moves some strata; those without examples stay. Returns the steps, `(moved, 2)`."""
        precision, information = self._precision[moved].copy(), self._information[moved]
        slow = np.where(precision[:, :1] > _KNOWN, self._slow, 1.0) / overlap
        precision += information
        step = _solved(precision, self._gradient[moved]) * slow
        self.theta[moved] += step
        self._precision[moved] = precision * np.minimum(1.0, self._most / precision[:, :1])
        self._gradient[moved] = 0.0
        self._information[moved] = 0.0
        return step

    def loosen(self) -> None:
        """Forgets what the reference said about the slope, because its model does not fit its own labels."""
        self._precision[0] = _REFIT

    def refit(self, stratum: int) -> None:
        """Replaces what is known of a stratum by the collected examples alone."""
        precision = self._information[stratum] + _REFIT
        self.theta[stratum] += _solved(precision[None], self._gradient[stratum][None])[0]
        self._precision[stratum] = precision

    def put_back(self, stratum: int, theta: Doubles) -> None:
        """Restores the earlier correction of a stratum."""
        self.theta[stratum] = theta
        self._precision[stratum] = np.maximum(self._precision[stratum], _PRIOR_GROUP)

    def forget(self, strata: NDArray[np.bool_]) -> None:
        """Discards the collected examples of some strata."""
        self._gradient[strata] = 0.0
        self._information[strata] = 0.0

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {name: getattr(self, name).tobytes() for name in _ARRAYS}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        for name in _ARRAYS:
            setattr(self, name, np.frombuffer(state[name]).reshape(getattr(self, name).shape).copy())


_ARRAYS = ("theta", "_precision", "_gradient", "_information")


def probability(logit: Doubles) -> Doubles:
    """Click probability of logits, bounded away from 0 and 1 so that no single label is infinite evidence."""
    return np.asarray(1.0 / (1.0 + np.exp(np.minimum(np.maximum(-logit, -_SUREST), _SUREST))))


def _solved(precision: Doubles, gradient: Doubles) -> Doubles:
    aa, ab, bb = precision.T
    det = aa * bb - ab * ab
    out = np.empty_like(gradient)
    out[:, 0] = (bb * gradient[:, 0] - ab * gradient[:, 1]) / det
    out[:, 1] = (aa * gradient[:, 1] - ab * gradient[:, 0]) / det
    return out


def _times(information: Doubles, step: Doubles) -> Doubles:
    return np.asarray(information[:, :2] * step[0] + information[:, 1:] * step[1])

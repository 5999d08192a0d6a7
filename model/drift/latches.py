"""Alarms of measures with a threshold: each fires once, and again only after the measure has come back (hysteresis)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.drift.verdict import Alarm
from model.gate.scored_examples import Doubles

_BACK = 0.5
"""Share of the threshold below which a measure must fall before its alarm may fire again."""


class Latches:
    """The alarms of a list of measures that are on, by stratum."""

    def __init__(self, names: Sequence[str], measures: Sequence[tuple[str, str, float]]) -> None:
        """`names` of the strata; detector, signal and threshold of each of the `measures`."""
        self._names, self._measures = names, measures
        self._threshold: Doubles = np.array([[threshold] for _, _, threshold in measures])
        self._standing: NDArray[np.bool_] = np.zeros((len(measures), len(names)), dtype=np.bool_)

    def judge(self, values: Doubles, time: float) -> list[Alarm]:
        """Takes the measures by stratum `(measures, strata)`; returns those that crossed. NaN changes nothing."""
        with np.errstate(invalid="ignore"):
            fired = (values >= self._threshold) & ~self._standing
            self._standing &= ~(values < _BACK * self._threshold)
        if not fired.any():
            return []
        self._standing |= fired
        return [
            Alarm(
                *self._measures[stratum][:2],
                self._names[n],
                time,
                float(values[stratum, n]),
                self._measures[stratum][2],
            )
            for stratum, n in np.argwhere(fired).tolist()
        ]

    def of(self, stratum: int) -> list[str]:
        """The alarms of a stratum that are on, as `detector signal`."""
        return [" ".join(self._measures[row][:2]) for row in np.flatnonzero(self._standing[:, stratum]).tolist()]

    def state(self) -> bytes:
        """For a snapshot."""
        return self._standing.tobytes()

    def load(self, state: bytes) -> None:
        """The inverse of `state`."""
        self._standing = np.frombuffer(state, dtype=np.bool_).reshape(self._standing.shape).copy()

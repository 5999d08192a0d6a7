"""Alarms of measures that cross a threshold: once when they do, and again only after they came back (hysteresis)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.drift.verdict import Alarm
from model.gate.seen import Doubles

_BACK = 0.5
"""Share of its threshold below which a measure must fall before its alarm can be given again."""


class Latches:
    """Which alarms stand, of every detector and signal, by stratum."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._standing: dict[tuple[str, str], NDArray[np.bool_]] = {}

    def judge(self, detector: str, signal: str, value: Doubles, threshold: float, time: float) -> list[Alarm]:
        """Takes a measure by stratum; returns those that crossed the threshold. nan changes nothing."""
        standing = self._standing.setdefault((detector, signal), np.zeros(len(self._names), dtype=np.bool_))
        with np.errstate(invalid="ignore"):
            fired = (value >= threshold) & ~standing
            standing[value < _BACK * threshold] = False
        if not fired.any():
            return []
        standing[fired] = True
        return [
            Alarm(detector, signal, self._names[stratum], time, float(value[stratum]), threshold)
            for stratum in np.flatnonzero(fired).tolist()
        ]

    def of(self, stratum: int) -> list[str]:
        """The alarms that stand of a stratum, as `detector signal`."""
        return sorted(" ".join(key) for key, standing in self._standing.items() if standing[stratum])

    def state(self) -> list[list[Any]]:
        """For a snapshot."""
        return [[*key, standing.tobytes()] for key, standing in self._standing.items()]

    def load(self, state: Sequence[Sequence[Any]]) -> None:
        """The inverse of `state`."""
        self._standing = {
            (str(detector), str(signal)): np.frombuffer(data, dtype=np.bool_).copy() for detector, signal, data in state
        }

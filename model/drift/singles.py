"""Detectors from the literature on the frozen arm's log loss and residual: river's ADWIN and Page-Hinkley, and KSWIN.

They take one number at a time, here the mean of each block of a stratum's examples. A detector is rebuilt after it has
fired or taken `_MOST` blocks, and then given its newest `_KEPT` values again. Its state therefore follows from few
values, and a snapshot stores those values only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from model.drift.kswin import KswinWindow
from model.drift.verdict import Alarm
from model.gate.scored_examples import Doubles

BLOCK = 256
"""Examples of a stratum whose mean is one value for its detectors."""
_MOST, _KEPT = 96, 48
_ADWIN_DELTA = 1e-5
_PAGE_HINKLEY = {"log_loss": (0.01, 0.35), "residual": (0.01, 0.35)}
"""`delta` and `threshold` of Page-Hinkley, by signal."""
_KSWIN_ALPHA = 1e-4
SIGNALS = ("log_loss", "residual")


class _Single(Protocol):
    drift_detected: bool

    def update(self, x: float) -> None: ...


def _make(detector: str, signal: str) -> _Single:
    from river.drift import ADWIN, PageHinkley  # seconds and 150 MB that only a monitor needs

    if detector == "adwin":
        made: _Single = ADWIN(delta=_ADWIN_DELTA, clock=1)
    elif detector == "page_hinkley":
        delta, threshold = _PAGE_HINKLEY[signal]
        made = PageHinkley(delta=delta, threshold=threshold, min_instances=4)
    else:
        made = KswinWindow(_KSWIN_ALPHA, window=40, sample=12, seed=0)
    return made


class _Channel:
    """One detector on one signal of one stratum."""

    def __init__(self, detector: str, signal: str) -> None:
        self.detector, self.signal = detector, signal
        self._values: list[float] = []
        self._single = _make(detector, signal)

    def take(self, value: float) -> bool:
        """Takes a value; returns whether the detector fires."""
        self._values.append(value)
        self._single.update(value)
        fired = bool(self._single.drift_detected)
        if fired or len(self._values) >= _MOST:
            self.load([] if fired else self._values[-_KEPT:])
        return fired

    def values(self) -> list[float]:
        """The values taken since the detector was rebuilt."""
        return self._values

    def load(self, values: list[float]) -> None:
        """Rebuilds the detector from `values`."""
        self._single, self._values = _make(self.detector, self.signal), list(values)
        for value in values:
            self._single.update(value)


class Singles:
    """All single detectors, by stratum. KSWIN watches the group's loss alone."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._block: Doubles = np.zeros((len(names), 1 + len(SIGNALS)))
        """Examples of the unfinished block, and the sums of the signals over them."""
        self._channels = [
            [_Channel(detector, signal) for signal in SIGNALS for detector in _detectors(stratum, signal)]
            for stratum in range(len(names))
        ]

    def take(self, loss: Doubles, residual: Doubles, member: Doubles, time: float) -> list[Alarm]:
        """Takes log losses and residuals (label minus expectation) of examples `(n,)`; returns the alarms that
        fired."""
        self._block += member @ np.array([np.ones_like(loss), loss, residual]).T
        alarms = []
        for stratum in np.flatnonzero(self._block[:, 0] >= BLOCK).tolist():
            count, *sums = self._block[stratum].tolist()
            means = {name: total / count for name, total in zip(SIGNALS, sums, strict=True)}
            self._block[stratum] = 0.0
            alarms += [
                Alarm(one.detector, one.signal, self._names[stratum], time, means[one.signal], _threshold(one))
                for one in self._channels[stratum]
                if one.take(means[one.signal])
            ]
        return alarms

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        values = [[np.array(channel.values()).tobytes() for channel in row] for row in self._channels]
        return {"block": self._block.tobytes(), "values": values}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._block = np.frombuffer(state["block"]).reshape(self._block.shape).copy()
        for row, values in zip(self._channels, state["values"], strict=True):
            for channel, data in zip(row, values, strict=True):
                channel.load(np.frombuffer(data).tolist())


def _detectors(stratum: int, signal: str) -> tuple[str, ...]:
    return ("adwin", "page_hinkley", *(("kswin",) if stratum == 0 and signal == "log_loss" else ()))


SINGLES = tuple(dict.fromkeys((name, signal) for n in (0, 1) for signal in SIGNALS for name in _detectors(n, signal)))
"""Every detector with each signal that it takes in some stratum."""


def _threshold(channel: _Channel) -> float:
    if channel.detector == "adwin":
        return _ADWIN_DELTA
    return _PAGE_HINKLEY[channel.signal][1] if channel.detector == "page_hinkley" else _KSWIN_ALPHA

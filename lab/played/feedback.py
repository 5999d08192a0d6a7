"""Clicks as they come to a played stream, and what is known of their delay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_KEPT = 0.995
"""Of what is known of feedback, kept from one click to the next: the last 200 clicks or so."""


class Feedback:
    """Clicks in the order in which they come."""

    def __init__(self, arrival: NDArray[np.float64], example: NDArray[np.int64], late: NDArray[np.int64]) -> None:
        """All by click, rising by `arrival`, s; `late` is 0 in time, 1 to be put right, 2 for lost."""
        self._arrival, self._example, self._late = arrival, example, late
        self._taken = 0
        self._mass = self._late_mass = self._delay_mass = 0.0
        self._delay: NDArray[np.float64] = np.zeros(0)

    @staticmethod
    def of(
        click: NDArray[np.bool_], delay: NDArray[np.float64], time: NDArray[np.float64], limits: tuple[float, float]
    ) -> Feedback:
        """Of examples `(n,)` shown at `time`; `limits` are when a click is late, and when it is lost, s behind it."""
        example = np.flatnonzero(click)
        example = example[np.argsort((time + delay)[example], kind="stable")]
        late = (delay[example] > limits[0]).astype(np.int64) + (delay[example] > limits[1])
        feedback = Feedback((time + delay)[example], example, late)
        feedback._delay = delay[example]
        return feedback

    def until(self, now: float) -> NDArray[np.int64]:
        """Examples whose clicks came too late for their window since the last call, but not too late to count."""
        end = int(np.searchsorted(self._arrival, now, side="right"))
        come = slice(self._taken, end)
        for late, delay in zip((self._late[come] > 0).tolist(), self._delay[come].tolist(), strict=True):
            self._mass = _KEPT * self._mass + 1
            self._late_mass = _KEPT * self._late_mass + late
            self._delay_mass = _KEPT * self._delay_mass + delay
        self._taken = end
        return np.asarray(self._example[come][self._late[come] == 1])

    @property
    def late_share(self) -> float:
        """Of recent clicks, those that came behind their window; nan before the first."""
        return self._late_mass / self._mass if self._mass else float("nan")

    @property
    def delay_s(self) -> float:
        """Mean delay of recent clicks, s; nan before the first."""
        return self._delay_mass / self._mass if self._mass else float("nan")

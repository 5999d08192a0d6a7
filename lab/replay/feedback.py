"""Clicks as they come to a replayed stream, and what is known of their delay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_KEPT = 0.98
"""Factor that counts keep from one look to the next, as in the processor."""


class Feedback:
    """Clicks in the order in which they come."""

    def __init__(
        self,
        arrival: NDArray[np.float64],
        example: NDArray[np.int64],
        delay: NDArray[np.float64],
        late: NDArray[np.int64],
    ) -> None:
        """All arrays by click, ascending by `arrival`, s; `late` is 0 for in time, 1 for late, 2 for lost."""
        self._arrival, self._example, self._delay, self._late = arrival, example, delay, late
        self._taken = 0
        self._mass = self._late_mass = self._delay_mass = 0.0

    @staticmethod
    def of(
        click: NDArray[np.bool_], delay: NDArray[np.float64], time: NDArray[np.float64], limits: tuple[float, float]
    ) -> Feedback:
        """Feedback of examples `(n,)` shown at `time`; `limits` are the delays, s, from which a click is late and
        lost."""
        example = np.flatnonzero(click)
        example = example[np.argsort((time + delay)[example], kind="stable")]
        late = (delay[example] > limits[0]).astype(np.int64) + (delay[example] > limits[1])
        return Feedback((time + delay)[example], example, delay[example], late)

    def until(self, now: float) -> NDArray[np.int64]:
        """Examples whose clicks came too late for their window since the last call, but not too late to count."""
        end = int(np.searchsorted(self._arrival, now, side="right"))
        come = slice(self._taken, end)
        self._mass = _KEPT * self._mass + end - self._taken
        self._late_mass = _KEPT * self._late_mass + float((self._late[come] > 0).sum())
        self._delay_mass = _KEPT * self._delay_mass + float(self._delay[come].sum())
        self._taken = end
        return np.asarray(self._example[come][self._late[come] == 1])

    @property
    def late_share(self) -> float:
        """Share of recent clicks that came after their window; NaN before the first."""
        return self._late_mass / self._mass if self._mass else float("nan")

    @property
    def delay_s(self) -> float:
        """Mean delay of recent clicks, s; nan before the first."""
        return self._delay_mass / self._mass if self._mass else float("nan")

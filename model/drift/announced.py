"""An announced change of a stratum's labels, and what is learned of it until it ends (ours)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from model.drift.hypotheses import HYPOTHESES, Cause
from model.gate.scored_examples import Doubles

_HALF_LIFE = 600.0
"""Half-life, in examples, of the evidence about the cause after a change was announced."""
_RECOVERY_HALF_LIFE = 1_500.0
"""Half-life, in examples, of the losses that say how much of the change the live arm has made good."""


@dataclass
class Change:
    """An announced change of a stratum's labels that has not ended."""

    cause: Cause
    name: str
    """Name of the hypothesis."""
    since: float
    """Event time, s."""
    before: list[float]
    """Offset and slope of the expectation before the change."""
    after: list[float]
    """Offset and slope that the announcement put in their place, for `against`; unlike the expectation these stay."""
    nats: float
    """Evidence at the announcement."""
    examples: float = 0.0
    """Examples of the stratum since the announcement."""
    back: float = 0.0
    """CUSUM of the evidence that labels are again as before, nats."""
    fits: list[float] = field(default_factory=lambda: [0.0] * len(HYPOTHESES))
    """Recent evidence for each hypothesis against the expectation before the change, nats."""
    against: list[float] = field(default_factory=list)
    """For a change of the whole group: evidence against it, as it was announced, in every stratum, nats."""
    lost: float = 0.0
    """Recent loss of the earlier expectation above the frozen arm's loss when corrected in hindsight, nats."""
    left: float = 0.0
    """The same excess of the live arm."""

    @property
    def recovered(self) -> float:
        """Share of the frozen arm's loss that the live arm does not have; NaN if nothing was lost."""
        return 1.0 - self.left / self.lost if self.lost > 0 else float("nan")

    def take(self, sums: Doubles, *, newest: bool) -> None:
        """Takes sums over further examples of its stratum; `newest` says whether it is the stratum's newest change.

        `sums` are the number of examples, the evidence for a return to the state before, the live arm's loss above the
        frozen arm's, and the evidence for each hypothesis.
        """
        examples, ratio, left = sums[:3].tolist()
        kept, long = (2.0 ** (-examples / half) for half in (_HALF_LIFE, _RECOVERY_HALF_LIFE))
        self.fits = (kept * np.asarray(self.fits) + sums[3:]).tolist()
        self.lost = long * self.lost - ratio
        self.left = long * self.left + left
        self.examples += examples
        # While a label fault lasts, older changes of taste cannot be judged, so only the newest change may end.
        self.back = max(0.0, self.back + ratio) if newest else 0.0

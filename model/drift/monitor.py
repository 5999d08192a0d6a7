"""The drift monitor of one kernel group: everything seen goes in, what changed comes out.

No broker, clock or global. The same calls give the same verdicts, wherever `state` was taken and loaded again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.drift.config import DriftConfig
from model.drift.reference import Reference
from model.drift.signs import ARMS, NAN, ArmSigns, KernelHealth, LabelHealth, Signals
from model.drift.verdict import Alarm, Verdict, VerdictKind
from model.gate.seen import Doubles, Seen, Strata


class DriftMonitor:
    """Watches one group."""

    def __init__(self, strata: Strata, reference: Reference | None, config: DriftConfig) -> None:
        """Without a `reference` the first examples are taken for it, and until then inputs are not judged."""
        self._strata, self._reference, self._config = strata, reference, config

    def served(
        self,
        frozen: NDArray[np.floating],
        live: NDArray[np.floating],
        x: NDArray[np.floating],
        domain: tuple[int, int, int],
        time: float,
    ) -> None:
        """An impression, before its labels: logits `(n,)` of its items, representation `(n, width)`, facet indices."""

    def learned(  # noqa: PLR0917 - what a micro-batch is, in the order of the gate
        self,
        seen: Seen,
        weight: Doubles,
        taught: NDArray[np.bool_],
        candidate: Doubles,
        kernel: KernelHealth,
        time: float,
    ) -> None:
        """A micro-batch of which it was decided what becomes of it.

        `weight` `(n,)` by the shares of users and items (`GuardedBatch.weight`), `taught` `(r,)` what was not
        set aside, `candidate` `(n,)` logits from before it learned, nan where it did not; `time` is the newest event
        time of the batch, s.
        """

    def judge(self, health: LabelHealth, time: float) -> list[Verdict | Alarm]:
        """What has changed since the last call, to be called behind each micro-batch."""
        return []

    @property
    def verdicts(self) -> list[Verdict]:
        """One per stratum, in their order."""
        return [
            Verdict(self._strata.name(n), VerdictKind.TOO_LITTLE, NAN, {}, "No traffic yet.", "Wait.")
            for n in range(len(self._strata))
        ]

    def signals(self) -> list[Signals]:
        """One per stratum, in their order."""
        arms = {arm: ArmSigns() for arm in ARMS}
        return [
            Signals(self._strata.name(n), 0, 0, NAN, arms, NAN, NAN, NAN, NAN, {}, NAN, NAN, NAN, KernelHealth(), 0)
            for n in range(len(self._strata))
        ]

    def state(self) -> dict[str, Any]:
        """For a snapshot: numbers, strings and bytes."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""

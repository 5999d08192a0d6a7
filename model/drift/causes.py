"""Reduces all findings to one verdict per stratum, with hysteresis (ours).

Causes are tried in the order of what they explain away. Inputs far from the reference make every arm worse. Wrong
labels look like a change of taste. A broken kernel leaves the frozen arm as it was. What remains is a change of taste.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.drift.announced import Change
from model.drift.change import ChangeTest
from model.drift.config import MONITORED_INPUTS
from model.drift.hypotheses import Cause
from model.drift.live_arm import LiveArm
from model.drift.signs import LabelHealth
from model.drift.verdict import VerdictKind
from model.drift.words import HOW
from model.gate.scored_examples import Doubles

_FAR = 1.0
"""PSI at which inputs are at fault. It is high because a value with few users varies with who comes, a group by
season."""
JUMP = 5.0
"""Factor by which the group's newest inputs must be farther than usual from those before (docs/decisions/0140)."""
_NEAR = 0.5
"""Share of that threshold below which the fault ends."""
REFUSED = 0.1
"""Share of recent examples with non-finite numbers at which inputs are at fault."""
_LATE = 0.5
_HOLD = 300.0
"""Examples for which a label fault reported by gate or join still holds after they stop reporting it."""
_AFTER = 2_000.0
"""Examples after a label fault during which a kernel that learned from it may still be served."""
_HANDLED, _UNHANDLED = 0.5, 0.25
"""Share of the frozen arm's loss that the live arm recovers: above the first, drift is handled; below the second, no
longer."""
_SETTLE, _LOST = 300.0, 6.0
"""Examples and lost nats that are needed before drift is called handled."""


@dataclass(frozen=True)
class Finding:
    """The fault of one stratum, before it becomes a verdict."""

    kind: VerdictKind
    since: float
    evidence: dict[str, float | str]


_PLAIN = Finding(VerdictKind.STABLE, float("nan"), {}), Finding(VerdictKind.TOO_LITTLE, float("nan"), {})


class Causes:
    """The faults of every stratum at present."""

    def __init__(self, strata: int, least_examples: int) -> None:
        self._least = least_examples
        self.far: NDArray[np.bool_] = np.zeros(strata, dtype=np.bool_)
        """Mask of the strata whose inputs are at fault."""
        self._shadow: NDArray[np.bool_] = np.zeros(strata, dtype=np.bool_)
        self._jump = 0.0
        self._far_since: Doubles = np.full(strata, np.nan)
        self._reported_until: Doubles = np.full(strata, -np.inf)
        """Count of the stratum's examples up to which a label fault reported by gate or join holds."""
        self._reported_since: Doubles = np.full(strata, np.nan)
        self._reported_how = [""] * strata
        self._unsound_until: Doubles = np.full(strata, float(least_examples))
        self._handled: NDArray[np.bool_] = np.zeros(strata, dtype=np.bool_)
        self._rolled_back = -1

    def inputs(self, psi: Doubles, refused: Doubles, jump: float, time: float) -> None:
        """Takes the largest PSI by stratum `(strata,)`, NaN if unknown, the shares of refused examples, and the group's
        jump."""
        worst = np.fmax(psi / _FAR, refused / REFUSED)
        worst[0], self._jump = max(float(np.nan_to_num(worst[0])), jump / JUMP), jump
        far = (worst >= 1.0) | (self.far & (worst >= _NEAR))
        # After a fault of the whole group, what it left in the windows of single values is not their own fault.
        self._shadow = (self._shadow | far[0]) & (worst >= _NEAR)
        far[1:] &= ~self._shadow[1:]
        self._far_since[far & ~self.far] = time
        self.far = far

    def report_labels(
        self, health: LabelHealth, arm: LiveArm, test: ChangeTest, examples: Doubles, time: float
    ) -> bool:
        """Takes what gate and join report about labels; returns whether a fault began or ended."""
        signs = dict.fromkeys(np.flatnonzero(health.aside).tolist(), "aside")
        if health.paused:
            signs[0] = "paused"
        elif health.late_share > _LATE:
            signs[0] = "late"
        news = self._rolled_back >= 0 and health.rolled_back > self._rolled_back
        self._rolled_back = health.rolled_back
        if not (signs or news):
            return False
        before = self._reported_until >= examples
        for stratum, how in signs.items():
            if self._reported_until[stratum] < examples[stratum]:
                self._reported_since[stratum] = time
            self._reported_how[stratum] = how
            self._reported_until[stratum] = examples[stratum] + _HOLD
        labels_faulty = any(change.cause is Cause.LABELS for one in test.changes for change in one)
        if news and not labels_faulty and not (self._reported_until >= examples).any():
            arm.break_down(0, time)
            return True
        return bool(((self._reported_until >= examples) != before).any())

    def sound(self, test: ChangeTest, examples: Doubles) -> NDArray[np.bool_]:
        """Mask of the strata whose live arm can be judged by labels: no fault holds or has just ended there.

        Until a label fault is known a kernel may learn from it, and that is no fault of the kernel.
        """
        faulty = np.array([any(one.cause is Cause.LABELS for one in changes) for changes in test.changes])
        faulty |= self._reported_until >= examples
        self._unsound_until[faulty | faulty[0]] = (examples + _AFTER)[faulty | faulty[0]]
        return np.asarray(examples >= self._unsound_until)

    def find(self, test: ChangeTest, arm: LiveArm, examples: Doubles, psi: Doubles) -> list[Finding]:
        """One finding per stratum; `since` is NaN if its cause has no known begin."""
        nothing = ~self.far & (self._reported_until < examples) & np.isnan(arm.since)
        nothing &= [not changes for changes in test.changes]
        self._handled[nothing] = False
        few = (examples < self._least).tolist()
        return [
            _PLAIN[few[stratum]] if plain else self._find(stratum, test, arm, examples, psi)
            for stratum, plain in enumerate(nothing.tolist())
        ]

    def _find(self, stratum: int, test: ChangeTest, arm: LiveArm, examples: Doubles, psi: Doubles) -> Finding:
        """The cause in a stratum where something was found. Inputs explain everything else, labels all but inputs, and
        a broken kernel the rest, before interest itself counts as changed."""
        changes = test.changes[stratum]
        newest = changes[-1] if changes else None
        if newest is None:
            self._handled[stratum] = False
        if self.far[stratum]:
            return self._input_fault(stratum, psi)
        if newest is not None and newest.cause is Cause.LABELS:
            return Finding(VerdictKind.LABELS, newest.since, {"how": HOW[newest.name], **_of(newest)})
        if self._reported_until[stratum] >= examples[stratum]:
            how = self._reported_how[stratum]
            return Finding(VerdictKind.LABELS, float(self._reported_since[stratum]), {"how": HOW[how], "cause": how})
        if not np.isnan(arm.since[stratum]):
            gap: dict[str, float | str] = {"live_above_frozen": float(arm.gap[stratum]), "threshold": arm.alarm}
            return Finding(VerdictKind.BROKEN_BY_US, float(arm.since[stratum]), gap)
        assert newest is not None, "there is something to find"
        return self._taste(stratum, newest)

    def _input_fault(self, stratum: int, psi: Doubles) -> Finding:
        """The finding for inputs far from the reference, with the input that has moved most by its PSI."""
        distances = np.nan_to_num(psi[stratum])
        worst = int(distances.argmax())
        how = f"PSI of {MONITORED_INPUTS[worst]} is {distances[worst]:.1f}"
        figures: dict[str, float | str] = {"psi": float(distances[worst]), "threshold": _FAR}
        if stratum == 0:
            figures["jump"] = self._jump
        if stratum == 0 and self._jump >= _NEAR * JUMP:
            how = f"they have moved {self._jump:.0f} times as far as usual at once"
        elif distances[worst] < _NEAR * _FAR:
            how = "many numbers are not finite"
        figures["how"] = how
        return Finding(VerdictKind.INPUTS, float(self._far_since[stratum]), figures)

    def _taste(self, stratum: int, change: Change) -> Finding:
        recovered = change.recovered
        if change.examples >= _SETTLE and change.lost >= _LOST:
            self._handled[stratum] = recovered >= (_UNHANDLED if self._handled[stratum] else _HANDLED)
        kind = VerdictKind.HANDLED if self._handled[stratum] else VerdictKind.UNHANDLED
        share = 0.0 if np.isnan(recovered) else float(np.clip(recovered, 0.0, 1.0))
        return Finding(kind, change.since, {"recovered": share, **_of(change)})

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        arrays = {name: getattr(self, name).tobytes() for name in _ARRAYS}
        reported = {"how": self._reported_how, "rolled_back": self._rolled_back}
        return {"arrays": arrays, "jump": self._jump, **reported}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        for name in _ARRAYS:
            setattr(self, name, np.frombuffer(state["arrays"][name], dtype=getattr(self, name).dtype).copy())
        self._jump = float(state["jump"])
        self._reported_how, self._rolled_back = [str(how) for how in state["how"]], int(state["rolled_back"])


_ARRAYS = ("far", "_shadow", "_far_since", "_reported_until", "_reported_since", "_unsound_until", "_handled")


def _of(change: Change) -> dict[str, float | str]:
    return {"cause": change.name, "nats": round(change.nats, 1), "examples_since": round(change.examples)}

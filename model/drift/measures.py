"""The measures shown for every stratum: the arms on recent labels, counts, and reports of gate, join and learner."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.drift.signs import ARMS, NAN, ArmSigns, LabelHealth, Signals
from model.drift.windows import ArmWindows
from model.gate.scored_examples import Doubles

_DELAY_KEPT = 0.99
"""Factor that the usual label delay keeps from one micro-batch to the next."""
_USUAL = 2.0
"""Multiple of the usual delay up to which a delay still updates the usual one."""
_LEAST = 500.0
LABEL_ALARMS = (("label_delay", 3.0), ("late_share", 0.5), ("dropped_share", 0.5))
"""Alarm thresholds: multiple of the usual delay, share of late feedback, share of dropped traffic."""


class StratumMeasures:
    """Recent measures and counts, by stratum."""

    def __init__(self, strata: int) -> None:
        self._arms = ArmWindows(strata, ARMS)
        self.examples: Doubles = np.zeros(strata)
        """Labelled examples since the group began, by weight."""
        self.served: Doubles = np.zeros(strata)
        self.refused: Doubles = np.zeros(strata)
        self._delay = self._usual_delay = self._late = self._dropped = NAN

    def take(self, label: Doubles, logits: Doubles, member: Doubles, strata: NDArray[np.int64]) -> None:
        """Takes what `ArmWindows.take` takes, of the `ARMS`."""
        self.examples += member.sum(axis=1)
        self._arms.take(label, logits, member, strata)

    def take_health(self, health: LabelHealth) -> None:
        """Takes what gate and join report about the labels."""
        self._late, self._dropped, self._delay = health.late_share, health.dropped_share, health.delay_s
        if math.isnan(self._usual_delay):
            self._usual_delay = self._delay
        elif self._delay <= _USUAL * self._usual_delay:
            self._usual_delay = _DELAY_KEPT * self._usual_delay + (1 - _DELAY_KEPT) * self._delay

    def of_labels(self) -> tuple[float, ...]:
        """Measures of the feedback path, in the order of `LABEL_ALARMS`."""
        ratio = self._delay / self._usual_delay if self._usual_delay > 0 else NAN
        return ratio, self._late, self._dropped

    def off(self, arm: str) -> Doubles:
        """Miscalibration of an arm, `|log(mean score / mean label)|`, `(strata,)`; NaN for too few examples."""
        sums = self._arms.sums(arm)
        known = (sums["count"] >= _LEAST) & (sums["label"] > 0)
        ratio = np.where(known, sums["score"], 1.0) / np.where(known, sums["label"], 1.0)
        return np.where(known, np.abs(np.log(ratio)), np.nan)

    def signals(
        self,
        names: list[str],
        expected: Mapping[str, Doubles],
        gap: Doubles,
        inputs: list[Mapping[str, Mapping[str, float]]],
    ) -> list[Signals]:
        """One per stratum."""
        measured = {arm: self._arms.measures(arm) for arm in ARMS}
        return [
            Signals(
                stratum=name,
                examples=round(float(self.examples[n])),
                served=round(float(self.served[n])),
                label_rate=float(measured["frozen"]["label_rate"][n]),
                arms={
                    arm: ArmSigns(float(one["log_loss"][n]), float(one["auc"][n]), float(one["calibration"][n]))
                    for arm, one in measured.items()
                },
                gap=-float(gap[n]),
                expected_log_loss=float(expected["log_loss"][n]),
                expected_auc=float(expected["auc"][n]),
                expected_error=float(expected["error"][n]),
                inputs=inputs[n],
                label_delay_s=self._delay,
                late_share=self._late,
                dropped_share=self._dropped,
                refused=round(float(self.refused[n])),
            )
            for n, name in enumerate(names)
        ]

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {
            "arms": self._arms.state(),
            "counts": {name: getattr(self, name).tobytes() for name in _COUNTS},
            "delay": [self._delay, self._usual_delay, self._late, self._dropped],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._arms.load(state["arms"])
        for name in _COUNTS:
            setattr(self, name, np.frombuffer(state["counts"][name]).copy())
        self._delay, self._usual_delay, self._late, self._dropped = (float(value) for value in state["delay"])


_COUNTS = ("examples", "served", "refused")

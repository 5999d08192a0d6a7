"""How well the live arm is expected to do before labels are in, from its own calibrated probabilities.

Confidence-based performance estimation (NannyML's CBPE; Guillory et al., Predicting with confidence on unseen
distributions, ICCV 2021): if `p` is calibrated, the log loss is expected to be the entropy of `p`, and the AUC follows
from how many clicks and non-clicks are expected at each score. It sees what changes in the scores. What it cannot see
is that `p` is no longer calibrated, so its own error is kept beside it, taken from labels that came later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.drift.expectation import Expectation, probability
from model.drift.windows import HALF_LIFE, Decaying, binned, binned_auc
from model.gate.seen import Doubles

_BLOCK = 250.0
"""Examples whose mean loss is compared with what was expected of it."""
_ERROR_HALF_LIFE = 4_000.0


class ExpectedPerformance:
    """Expected log loss and AUC of the live arm, by stratum."""

    def __init__(self, facet: Sequence[int], centre: float) -> None:
        count = len(facet)
        self._calibration = Expectation(facet, centre, slow=1.0)
        bins = binned(np.zeros((1, 0)), np.zeros(0), np.zeros(0)).shape[1]
        self._window = Decaying(
            count, HALF_LIFE, {"count": (), "entropy": (), "positive": (bins,), "negative": (bins,)}
        )
        self._block = Decaying(count, np.inf, {"count": (), "difference": ()})
        self._error = Decaying(count, _ERROR_HALF_LIFE, {"count": (), "error": ()})

    def served(self, live: Doubles, member: Doubles) -> None:
        """Takes live logits `(n,)` as they are served."""
        p = probability(self._calibration.logit(member, live))
        entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p))
        sums = member @ np.stack([np.ones_like(p), entropy], 1)
        positive, negative = binned(member, live, p), binned(member, live, 1 - p)
        parts = {"count": sums[:, 0], "entropy": sums[:, 1], "positive": positive, "negative": negative}
        self._window.add(sums[:, 0], parts)

    def learned(self, label: Doubles, live: Doubles, member: Doubles) -> None:
        """Takes the labels of what was served: how far off it was, and how the live arm is to be corrected."""
        p = probability(self._calibration.logit(member, live))
        # What is lost beyond what was expected of `p`.
        surprise = (p - label) * np.log(p / (1 - p))
        sums = member @ np.stack([np.ones_like(p), surprise], 1)
        self._block.add(sums[:, 0], {"count": sums[:, 0], "difference": sums[:, 1]})
        count, difference = self._block.sums["count"], self._block.sums["difference"]
        full = count >= _BLOCK
        if full.any():
            passed = np.where(full, count, 0.0)
            error = np.where(full, np.abs(difference), 0.0)
            self._error.add(passed, {"count": passed, "error": error})
            count[full] = difference[full] = 0.0
        self._calibration.see(member, live, p, label)
        self._calibration.believe(np.ones(len(member), dtype=np.bool_))

    def measures(self) -> dict[str, Doubles]:
        """`log_loss`, `auc` and the `error` of the log loss, nats, by stratum, nan where not known."""
        window, error = self._window.sums, self._error.sums
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "log_loss": np.where(window["count"] > 0, window["entropy"] / window["count"], np.nan),
                "auc": binned_auc(window["positive"], window["negative"]),
                "error": np.where(error["count"] > 0, error["error"] / error["count"], np.nan),
            }

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {name: getattr(self, name).state() for name in _PARTS}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        for name in _PARTS:
            getattr(self, name).load(state[name])


_PARTS = ("_calibration", "_window", "_block", "_error")

"""Expected performance of the live arm before labels arrive, from its own calibrated probabilities.

Confidence-based performance estimation (NannyML's CBPE; Guillory et al., Predicting with confidence on unseen
distributions, ICCV 2021): if `p` is calibrated, the expected log loss is the entropy of `p`, and the AUC follows from
the expected numbers of clicks and non-clicks at each score. The estimate follows changes of the scores, but cannot
notice that `p` is no longer calibrated. Its own error is therefore measured on labels that arrive later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.drift.expectation import Expectation, probability
from model.drift.windows import BINS, HALF_LIFE, Decaying, binned, binned_auc, bins_of
from model.gate.scored_examples import Doubles

_BLOCK = 250.0
"""Examples over which an actual mean loss is compared with the expected one."""
_ERROR_HALF_LIFE = 4_000.0


class ExpectedPerformance:
    """Expected log loss and AUC of the live arm, by stratum."""

    def __init__(self, facet: Sequence[int], centre: float) -> None:
        count = len(facet)
        self._calibration = Expectation(facet, centre, slow=1.0)
        self._window = Decaying(count, HALF_LIFE, {"sums": (2,), "bins": (2, BINS)})
        self._block: Doubles = np.zeros((count, 2))
        """Examples since the error was last measured, and the sum of their loss beyond the expected one, nats."""
        self._error = Decaying(count, _ERROR_HALF_LIFE, {"sums": (2,)})

    def served(self, live: Doubles, member: Doubles, strata: NDArray[np.int64]) -> None:
        """Takes live logits `(n,)` as they are served, and their strata, `(strata, n)` and as numbers `(n, 4)`."""
        p = probability(self._calibration.logit(member, live))
        entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p))
        sums = member @ np.array([np.ones_like(p), entropy]).T
        self._window.add(
            sums[:, 0], {"sums": sums, "bins": binned(strata, len(member), bins_of(live), np.array([p, 1 - p]))}
        )

    def learned(self, label: Doubles, live: Doubles, member: Doubles) -> None:
        """Takes labels of served examples: measures the error of the estimate and updates the calibration."""
        p = probability(self._calibration.logit(member, live))
        # Actual log loss of `p` less its expected log loss, the entropy of `p`.
        surprise = (p - label) * np.log(p / (1 - p))
        self._block += member @ np.array([np.ones_like(p), surprise]).T
        full = self._block[:, 0] >= _BLOCK
        if full.any():
            passed = np.where(full[:, None], np.abs(self._block), 0.0)
            self._error.add(passed[:, 0], {"sums": passed})
            self._block[full] = 0.0
        self._calibration.see(member, live, p, label)
        self._calibration.believe(np.ones(len(member), dtype=np.bool_))

    def measures(self) -> dict[str, Doubles]:
        """`log_loss`, `auc` and the `error` of the expected log loss, nats, by stratum; NaN if unknown."""
        sums, bins, error = self._window.sums["sums"], self._window.sums["bins"], self._error.sums["sums"]
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "log_loss": np.where(sums[:, 0] > 0, sums[:, 1] / sums[:, 0], np.nan),
                "auc": binned_auc(bins[:, 0], bins[:, 1]),
                "error": np.where(error[:, 0] > 0, error[:, 1] / error[:, 0], np.nan),
            }

    def state(self) -> dict[str, Any]:
        """For a snapshot."""
        return {"block": self._block.tobytes(), **{name: getattr(self, name).state() for name in _PARTS}}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._block = np.frombuffer(state["block"]).reshape(-1, 2).copy()
        for name in _PARTS:
            getattr(self, name).load(state[name])


_PARTS = ("_calibration", "_window", "_error")

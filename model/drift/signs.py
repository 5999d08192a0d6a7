"""The measures of a stratum, and what gate and join report about labels and kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NAN = float("nan")
ARMS = ("frozen", "live", "candidate")


@dataclass(frozen=True)
class LabelHealth:
    """What gate and join report about the labels."""

    aside: NDArray[np.bool_]
    """Mask of the strata whose labels the gate sets aside now, `(strata,)`."""
    held: bool = False
    """Whether the gate holds publication."""
    undone: int = 0
    """How often the gate returned the learner to an earlier state, since the group began."""
    rolled_back: int = 0
    """How often the live kernel was replaced because it did harm, since the group began."""
    late_share: float = NAN
    """Late and orphan share of recent feedback."""
    delay_s: float = NAN
    """Mean delay of recent clicks after their impression, s; NaN if unknown."""
    paused: bool = False
    """Whether the join waits for ingest."""
    dropped_share: float = NAN
    """Share of recent traffic that the join dropped."""


@dataclass(frozen=True)
class ArmSigns:
    """Measures of one arm on recent labels; NaN if unknown."""

    log_loss: float = NAN
    auc: float = NAN
    calibration: float = NAN
    """Mean score over mean label."""


@dataclass(frozen=True)
class Signals:
    """Measures of one stratum; NaN if unknown."""

    stratum: str
    examples: int
    """Labelled examples since the group began."""
    served: int
    """Examples served since the group began."""
    label_rate: float
    arms: Mapping[str, ArmSigns]
    """By arm, those of `ARMS`."""
    gap: float
    """Log loss of frozen above live on the same recent examples, nats: the kernel's gain."""
    expected_log_loss: float
    """Expected log loss of the live arm, from its calibrated probabilities, before labels arrive."""
    expected_auc: float
    expected_error: float
    """Mean distance of the expected log loss from the loss measured later, nats."""
    inputs: Mapping[str, Mapping[str, float]]
    """By watched input (`score`, `norm`, `projection_1` ..): distances by name (`psi`, `jensen_shannon`, `ks`)."""
    label_delay_s: float
    late_share: float
    dropped_share: float
    refused: int
    """Examples with non-finite numbers, since the group began."""

"""What a stratum shows now, and what is known of labels and kernel from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NAN = float("nan")
ARMS = ("frozen", "live", "candidate")


@dataclass(frozen=True)
class LabelHealth:
    """What gate and join know of the labels."""

    aside: NDArray[np.bool_]
    """Strata whose labels the gate sets aside now, `(strata,)`."""
    held: bool = False
    """Whether the gate holds publication."""
    undone: int = 0
    """How often the learner went back, since the group began."""
    rolled_back: int = 0
    """How often the live kernel was replaced because it did harm, since the group began."""
    late_share: float = NAN
    """Late and orphan share of recent feedback."""
    delay_s: float = NAN
    """Mean delay of recent clicks behind their impression, s; nan if not known."""
    paused: bool = False
    """Whether the join waits for ingest."""
    dropped_share: float = NAN
    """Share of recent traffic that the join dropped."""


@dataclass(frozen=True)
class ArmSigns:
    """How one arm does on recent labels; nan where not known."""

    log_loss: float = NAN
    auc: float = NAN
    calibration: float = NAN
    """Mean score over mean label."""


@dataclass(frozen=True)
class Signals:
    """What a stratum shows now; nan where not known."""

    stratum: str
    examples: int
    """Labelled examples since the group began."""
    served: int
    """Examples served since the group began."""
    label_rate: float
    arms: Mapping[str, ArmSigns]
    """By name, of `ARMS`."""
    gap: float
    """Log loss of frozen above live on the same recent examples, nats: what the kernel gains."""
    expected_log_loss: float
    """Of the live arm, from its calibrated probabilities, before labels."""
    expected_auc: float
    expected_error: float
    """Mean distance of the expected log loss from what later came true, nats."""
    inputs: Mapping[str, Mapping[str, float]]
    """By what is watched (`score`, `norm`, `projection_1` ..): distances by name (`psi`, `jensen_shannon`, `ks`)."""
    label_delay_s: float
    late_share: float
    dropped_share: float
    refused: int
    """Examples that were not finite, since the group began."""

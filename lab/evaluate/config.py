"""What an evaluation fixes for all of its adapters."""

from __future__ import annotations

from dataclasses import dataclass

from features.config import LiveConfig
from lab.adapters.training import GradientTraining
from model.config import BackboneConfig, PretrainConfig


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings that an evaluation fixes for all adapters."""

    backbone: BackboneConfig
    pretrain: PretrainConfig
    live: LiveConfig
    requests_per_second: float
    """Pace at which the live half is played: the live features' half-lives count in this time."""
    join_s: float
    """Original seconds a request waits for its feedback; a click after that is learned as none at first."""
    horizon_s: float
    """Original seconds for which a late click is still put right, as in the stream processor; later it is lost."""
    training: GradientTraining
    """Size of the batches that all adapters get, and the steps of those that learn by gradient."""

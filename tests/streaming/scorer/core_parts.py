"""Requests to a scoring core of small real models, and the scores they must get."""

from __future__ import annotations

import numpy as np

from model.backbone.foundation import FoundationBackbone
from model.encoding.domain import Domain
from streaming.scorer.schema import DomainFacets, ScoreRequest
from tests.streaming.scorer.scoring_parts import (
    MadeUpFeatures,
    live_logit,
)

HOME = DomainFacets("home", "unknown", "day")
ITEMS = [f"item-{i}" for i in range(12)]


def ask(candidates: list[str] = ITEMS, **more: object) -> ScoreRequest:
    """A request of one user at home; `more` are its other fields."""
    return ScoreRequest("user-1", candidates, **{"domain": HOME, **more})  # type: ignore[arg-type]


def frozen_scores(backbone: FoundationBackbone, items: list[str]) -> np.ndarray:
    """Log-odds of the frozen arm."""
    rows = MadeUpFeatures(backbone).represent("user-1", items, Domain("home", "unknown", "day"), 0.0)
    return rows.frozen_logit.numpy()


def live_scores(backbone: FoundationBackbone, items: list[str], version: int) -> np.ndarray:
    """Log-odds of the live arm with the kernel of that version."""
    rows = MadeUpFeatures(backbone).represent("user-1", items, Domain("home", "unknown", "day"), 0.0)
    return live_logit(rows, version).numpy()

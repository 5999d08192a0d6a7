"""Progress while a pretraining runs, and the figures of it that the card keeps."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.encoding.domain import FACETS
from model.evaluation import auc


@dataclass(frozen=True)
class TrainingProgress:
    """How far training has come; passed to the callback after each step."""

    step: int
    steps: int
    """Upper bound: early stopping may end before it."""
    epoch: int
    validation_auc: float
    """AUC of the best pass so far; NaN before the first pass has ended."""


@dataclass
class PretrainReport:
    """Figures of one pretraining."""

    epochs: int = 0
    best_epoch: int = 0
    resumed_epoch: int = 0
    """Passes that an earlier, interrupted run had completed."""
    train_examples: int = 0
    validation_examples: int = 0
    tower_share: float = 1.0
    """Share of the tower's logit, added to the first-order logit, that validated best; the tower is scaled by it."""
    refit_examples: int = 0
    """Examples of the refit, which runs `best_epoch` passes; 0 without a refit. Validation figures are of the first
    training."""
    validation_auc: float = float("nan")
    validation_log_loss: float = float("inf")
    validation_auc_ctcvr: float = float("nan")
    """AUC of CTCVR over all impressions; NaN without a conversion tower."""
    validation_auc_relevance: float = float("nan")
    """AUC of relevance over the judged examples; NaN without a relevance tower."""
    validation_auc_by_domain: dict[str, float] = field(default_factory=dict)
    """AUC per facet value, `"<facet>=<index>"`."""
    window: tuple[float, float] = (float("nan"), float("nan"))
    """First and last event time of the examples."""
    click_rate: float = float("nan")
    """Share of clicks among the examples, which target statistics are compared with."""
    dense_parameters: int = 0
    trained_parameters: int = 0
    content: dict[str, Any] = field(default_factory=dict)
    """How the content vectors were fitted."""
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    """Validation log loss and AUC per pass."""
    held_out: list[float] = field(default_factory=list)
    """Click logits of the validation examples by the first model, which was not trained on them; not in the card."""

    def to_json(self) -> dict[str, Any]:
        """As JSON for the card; undefined figures become null."""
        plain: dict[str, Any] = _without_nan(asdict(self))
        del plain["held_out"]
        return plain


def auc_by_domain(
    labels: NDArray[np.float32], logits: NDArray[np.float32], domain: NDArray[np.int64]
) -> dict[str, float]:
    """AUC per facet value that occurs, named `"<facet>=<index>"`; labels and logits `(n,)`, facet indices `(n, 3)`."""
    areas = {}
    for facet, name in enumerate(FACETS):
        for value in np.unique(domain[:, facet]):
            rows = domain[:, facet] == value
            areas[f"{name}={value}"] = auc(labels[rows], logits[rows])
    return areas


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

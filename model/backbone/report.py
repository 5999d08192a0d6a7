"""What a pretraining did: progress while it runs, and the figures that the card keeps."""

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
    """Where training stands; handed to the callback after each step."""

    step: int
    steps: int
    """Upper bound: early stopping may end before it."""
    epoch: int
    validation_auc: float
    """Of the best pass so far; not-a-number before the first has ended."""


@dataclass
class PretrainReport:
    """What training did."""

    epochs: int = 0
    best_epoch: int = 0
    resumed_epoch: int = 0
    """Passes that an earlier, interrupted run had done."""
    train_examples: int = 0
    validation_examples: int = 0
    tower_share: float = 1.0
    """Share of the tower's logit beside the first-order one that validated best; the rest is taken off at the end."""
    refit_examples: int = 0
    """Examples on which it was trained anew for `best_epoch` passes; 0 without. The validation is that of before."""
    validation_auc: float = float("nan")
    validation_log_loss: float = float("inf")
    validation_auc_ctcvr: float = float("nan")
    """AUC of CTCVR over all impressions; not-a-number without a conversion tower."""
    validation_auc_by_domain: dict[str, float] = field(default_factory=dict)
    """AUC per facet value, `"<facet>=<index>"`."""
    window: tuple[float, float] = (float("nan"), float("nan"))
    """First and last event time of the examples."""
    click_rate: float = float("nan")
    """Share of clicks among the examples: what target statistics are held against."""
    dense_parameters: int = 0
    trained_parameters: int = 0
    content: dict[str, Any] = field(default_factory=dict)
    """How the content vectors were fitted."""
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    """Validation log loss and AUC per pass."""
    held_out: list[float] = field(default_factory=list)
    """Click logits of the validating examples, by a model that was not trained on them; not part of the card."""

    def to_json(self) -> dict[str, Any]:
        """For the card: figures that are undefined become null."""
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

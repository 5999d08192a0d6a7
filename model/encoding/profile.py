"""Profiles of users and items before encoding: plain values, without PyTorch.

Ingest and the feature store only pass profiles on, so this module spares them PyTorch (docs/decisions/0141).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.encoding.spelling import FieldValue


@dataclass(frozen=True, slots=True)
class UserFeatures:
    """A user's profile."""

    user_id: str
    fields: Mapping[str, FieldValue]


@dataclass(frozen=True, slots=True)
class ItemFeatures:
    """An item's profile with the vector of its text, float32 `(text_width,)`; zeros if it has no text."""

    item_id: str
    fields: Mapping[str, FieldValue]
    text: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One item that a user clicked, or was shown and did not click."""

    item_id: str
    time: float
    """Event time of the request that showed it, seconds."""
    clicked: bool

"""One request whose labels are decided: what updates the live features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from features.live.layout import Floats

if TYPE_CHECKING:  # only types, and a process that scores nothing starts without PyTorch
    from model.encoding.domain import Domain
    from model.encoding.item_values import Slots


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """One request whose `n` labels are decided, as the live features take it."""

    user_id: str
    domain: Domain
    items: Sequence[str]
    content: Floats
    """Content vectors of the items as they were served, `(n, c)`."""
    values: Slots
    """Values of the items' crossed fields as they were served, `(n, S)`."""
    click: Floats
    """Labels, 0 or 1, `(n,)`."""
    residual: Floats
    """Label minus the frozen model's probability, `(n,)`."""
    time: float
    """Event time of the request, seconds."""

"""Vectors of events: the item by id, text or both, and optionally whether it was clicked and how long ago."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.config import BackboneConfig
from model.encoding.history import History

_GAPS = 32
"""Number of age buckets, which are powers of two of a second: the last begins at about a hundred years."""


class EventTokens(nn.Module):
    """Sum of an item vector and, if configured, a vector for the event's outcome and one for its age.

    Ages are bucketed at powers of two. TiSASRec (Li, Wang and McAuley, WSDM 2020, 3.2) buckets the gaps between all
    pairs of events instead; here only the age at the time of the request counts, so one vector per event is enough.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        width = config.history_width
        by_id, by_text = config.history_items != "text", config.history_items != "id"
        self.id = nn.Linear(config.id_width, width, bias=False) if by_id else None
        self.text = nn.Linear(config.text_width, width, bias=False) if by_text else None
        self.outcome = nn.Embedding(2, width) if config.history_skips else None
        self.gap = nn.Embedding(_GAPS, width) if config.history_gaps else None

    def items(self, history: History, table: nn.Embedding | None) -> Tensor:
        """Vectors of the items that occur, `(p, e)`; `table` holds the id embeddings."""
        parts = []
        if self.id is not None and table is not None:
            parts.append(self.id(table(history.row)))
        if self.text is not None:
            parts.append(self.text(history.text))
        return torch.stack(parts).sum(0)

    def forward(self, items: Tensor, history: History) -> Tensor:
        """Vectors of the events, `(u, h, e)`, from the vectors of their items; padding holds any finite value."""
        tokens = items[history.event.clamp(min=0)]
        if self.outcome is not None:
            tokens = tokens + self.outcome(history.clicked)
        if self.gap is not None:
            bucket = torch.log2(1.0 + history.age.clamp(min=0.0)).long().clamp(max=_GAPS - 1)
            tokens = tokens + self.gap(bucket)
        return tokens

"""The user encoder of the backbone: event vectors, a sequence encoder over them, one vector per user."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.backbone.encoders.bert4rec import Bert4Rec
from model.backbone.encoders.gru4rec import Gru4Rec
from model.backbone.encoders.nextitnet import NextItNet
from model.backbone.encoders.pool import Pool
from model.backbone.encoders.sasrec import SasRec
from model.backbone.encoders.tokens import EventTokens
from model.config import BackboneConfig
from model.encoding.history import History


class UserEncoder(nn.Module):
    """The encoder that `backbone.user_encoder` names. A user without a history gets a learned vector."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.length = config.history_length
        self.tokens = EventTokens(config)
        self.sequence = _sequence(config)
        self.empty = nn.Parameter(torch.zeros(config.history_width))
        self.map = nn.Linear(config.history_width, config.width)

    def forward(self, history: History, table: nn.Embedding | None) -> Tensor:
        """One vector per pair, `(n or 1, d)`; `table` holds the items' id embeddings, if items are known by id.

        Only the newest `history_length` events are read.
        """
        history = history.newest(self.length)
        mask = history.there
        if mask.shape[1] == 0:
            encoded = self.empty.expand(len(mask), -1)
        else:
            items = self.tokens.items(history, table)
            encoded = torch.where(
                mask.any(1, keepdim=True), self.sequence(self.tokens(items, history), mask), self.empty
            )
        out: Tensor = self.map(encoded)[history.of]
        return out


def _sequence(config: BackboneConfig) -> nn.Module:
    width, length, layers, dropout = (
        config.history_width, config.history_length, config.history_layers, config.dropout,
    )  # fmt: skip
    match config.user_encoder:
        case "pool":
            return Pool(width)
        case "gru4rec":
            return Gru4Rec(width)
        case "nextitnet":
            return NextItNet(width)
        case "sasrec":
            return SasRec(width, length, layers, dropout)
        case "bert4rec":
            return Bert4Rec(width, length, layers, dropout)
    raise ValueError(f"{config.user_encoder!r} encodes no user")

"""Cloze pretraining: the encoder guesses hidden events from the events around them (BERT4Rec, Sun et al., CIKM 2019,
3.6)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from model.backbone.dataset import TrainingData
from model.backbone.encoders.bert4rec import Bert4Rec
from model.backbone.encoders.user_encoder import UserEncoder
from model.backbone.optimisers import AdamW
from model.config import PretrainConfig

_HIDDEN = 0.2
"""Share of the events that is hidden, as in the paper's experiments on MovieLens (4.6)."""


def cloze_pretrain(
    encoder: UserEncoder, table: nn.Embedding | None, data: TrainingData, config: PretrainConfig
) -> None:
    """Teaches a `bert4rec` encoder, and the id embeddings in `table`, to predict hidden items in the histories of
    `data`.

    Candidates for a guess are the items that occur in the batch, compared by the vectors that the encoder reads; the
    paper takes all items. Encoders of other kinds are not changed.
    """
    bert = encoder.sequence
    if not isinstance(bert, Bert4Rec) or data.past is None:
        return
    generator = torch.Generator().manual_seed(config.seed)
    trained = [*encoder.tokens.parameters(), *bert.parameters(), *(table.parameters() if table is not None else ())]
    optimiser = AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    moments = torch.unique(torch.from_numpy(data.past.moment))
    encoder.train()
    for _ in range(config.cloze_passes):
        for part in torch.split(torch.randperm(len(moments), generator=generator), config.batch_size):
            at = replace(data.past, moment=moments[part].numpy())
            history = data.profiles.history(at, torch.arange(len(part))).newest(encoder.length)
            there = history.there
            hidden = there & (torch.rand(there.shape, generator=generator) < _HIDDEN)
            if not hidden.any():
                continue
            items = encoder.tokens.items(history, table)
            guessed = bert.guesses(encoder.tokens(items, history), there, hidden)
            loss = cross_entropy(guessed @ items.T, history.event[hidden])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

"""CLUE pretraining: the encoder learns to recognise two views of one user's history among other users' views (Cheng et
al., ICDM 2021)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from model.backbone.dataset import TrainingData
from model.backbone.encoders.user_encoder import UserEncoder
from model.backbone.optimisers import AdamW
from model.config import PretrainConfig
from model.encoding.history import PAD, History

_TEMPERATURE = 0.1
_PART, _LEFT_OUT = 0.6, 0.3
"""Share of a history that a view crops or reorders, and share that it drops event by event. Both are our choice, as is
the temperature."""
_FEWEST = 2
"""Least number of events in a history of which views are made, and of users that a step compares."""


def clue_pretrain(encoder: UserEncoder, table: nn.Embedding | None, data: TrainingData, config: PretrainConfig) -> None:
    """Teaches the encoder, and the id embeddings in `table`, what two views of one user's history have in common.

    Each step draws up to a batch of users and one moment of each. The instance to recognise is a history, not an item
    as in cloze. Nothing is learned if fewer than two users have a long enough history.
    """
    moments = _moments_by_user(data)
    if len(moments) < _FEWEST or data.past is None:
        return
    generator = torch.Generator().manual_seed(config.seed)
    trained = [*encoder.tokens.parameters(), *encoder.sequence.parameters()]
    trained += [] if table is None else [*table.parameters()]
    optimiser = AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
    encoder.train()
    for _ in range(config.clue_steps):
        users = torch.randperm(len(moments), generator=generator)[: config.batch_size].tolist()
        drawn = torch.rand(len(users), generator=generator).tolist()
        chosen = [moments[user][int(share * len(moments[user]))] for user, share in zip(users, drawn, strict=True)]
        history = data.profiles.history(replace(data.past, moment=np.array(chosen)), torch.arange(len(chosen)))
        history = history.newest(encoder.length)
        loss = contrast(*(user_vectors(encoder, table, view(history, generator)) for _ in range(2)))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def view(history: History, generator: torch.Generator) -> History:
    """A random view of each user's history: cropped, thinned or reordered."""
    there = history.there
    users, places = there.shape
    count = there.sum(1, keepdim=True)
    place = torch.arange(places)[None].expand(users, -1)
    part = (count * _PART).ceil()
    begin = (torch.rand(users, 1, generator=generator) * (count - part + 1)).floor()
    inside = (place >= begin) & (place < begin + part)
    by_lot = torch.rand(users, places, generator=generator)
    thinned = (by_lot >= _LEFT_OUT) | (place == count - 1)  # the newest event always stays
    kind = torch.randint(3, (users, 1), generator=generator)
    kept = there & ((kind == 2) | torch.where(kind == 0, inside, thinned))
    key = torch.where((kind == 2) & inside, begin + by_lot * part, place.float())
    order = torch.where(kept, key, torch.inf).argsort(dim=1, stable=True)
    event, age, clicked = (values.gather(1, order) for values in (history.event, history.age, history.clicked))
    return replace(history, event=torch.where(kept.gather(1, order), event, PAD), age=age, clicked=clicked)


def user_vectors(encoder: UserEncoder, table: nn.Embedding | None, history: History) -> Tensor:
    """The encoder's vectors of histories, `(u, e)`; each history must hold at least one event."""
    out: Tensor = encoder.sequence(encoder.tokens(encoder.tokens.items(history, table), history), history.there)
    return out


def contrast(first: Tensor, second: Tensor) -> Tensor:
    """InfoNCE loss over cosines: the nearest other vector of the batch should be the other view of the same user."""
    users = len(first)
    vector = normalize(torch.cat([first, second]), dim=1)
    alike = (vector @ vector.T / _TEMPERATURE).masked_fill(torch.eye(2 * users, dtype=torch.bool), -torch.inf)
    return cross_entropy(alike, torch.arange(2 * users).roll(users))


def _moments_by_user(data: TrainingData) -> list[list[int]]:
    """For each user with a history, the moments at which it held at least `_FEWEST` events."""
    if data.past is None:
        return []
    moment, first = np.unique(data.past.moment, return_index=True)
    enough = (data.past.item[moment] != PAD).sum(axis=1) >= _FEWEST
    of: dict[int, list[int]] = {}
    for user, at in zip(data.user.numpy()[first][enough].tolist(), moment[enough].tolist(), strict=True):
        of.setdefault(user, []).append(at)
    return list(of.values())

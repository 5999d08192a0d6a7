"""Pairs of user and item as a frozen backbone sees them, in parts that fit into memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.backbone.dataset import ProfileTable
from model.backbone.interface import FrozenBackbone, predicts_relevance, round_representation
from model.encoding.history import PastEvents

_ROWS_AT_ONCE = 8_192


@dataclass(frozen=True)
class RepresentedPairs:
    """The data of `n` pairs that would be logged."""

    x: NDArray[np.float16]
    """Rounded representations, `(n, d)`."""
    content: NDArray[np.float32]
    """Content vectors of the items, `(n, c)`."""
    frozen_logit: NDArray[np.float32]
    """Click logits on the rounded representations, `(n,)`."""
    cvr_logit: NDArray[np.float32]
    """Logits of a conversion once clicked, `(n,)`; 0 for a backbone without conversions."""
    relevance_logit: NDArray[np.float32] | None = None
    """Logits of the item's relevance to the query, `(n,)`; None for a backbone without relevance."""


@torch.inference_mode()
def represent_pairs(  # noqa: PLR0917 -- the columns of a pair
    backbone: FrozenBackbone,
    profiles: ProfileTable,
    user: NDArray[np.int64],
    item: NDArray[np.int64],
    domain: NDArray[np.int64],
    past: PastEvents | None = None,
    query: NDArray[np.int64] | None = None,
) -> RepresentedPairs:
    """Positions in `profiles` `(n,)` and facet indices `(n, 3)`; `past` is what a user encoder reads.

    `query` has the positions of the queries `(n,)`, where the pairs' requests carry some.
    """
    parts = []
    predict = backbone.predict_all if predicts_relevance(backbone) else backbone.predict
    for begin in range(0, len(user), _ROWS_AT_ONCE):
        part = slice(begin, begin + _ROWS_AT_ONCE)
        where = torch.from_numpy(domain[part])
        users, items = torch.from_numpy(user[part]), torch.from_numpy(item[part])
        rows = torch.arange(begin, begin + len(users))
        history = None if past is None else profiles.history(past, rows)
        asked = None if query is None else torch.from_numpy(query[part])
        batch = profiles.batch(users, items, where, history, asked)
        x = round_representation(backbone.represent(batch))
        logits = predict(x, where).unbind(1)
        parts.append((x.half().numpy(), backbone.content(batch).numpy(), *(logit.numpy() for logit in logits)))
    return RepresentedPairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))

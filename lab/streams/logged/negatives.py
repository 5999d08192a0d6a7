"""Sampled negatives for logs that hold only clicks (ours; popularity sampling is common practice)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lab.streams.logged.mapping import Negatives
from lab.streams.logged.rows import log_chunk
from lab.streams.stream import NO_ITEM, Chunk, StreamError


def with_negatives(log: Chunk, rule: Negatives, items: int) -> Chunk:
    """One request per click: the clicked item among sampled ones that the user never clicked, in random order."""
    rng = np.random.default_rng(rule.seed)
    row, column = np.nonzero(log.shown & log.click)
    user, chosen = log.user[row], log.items[row, column]
    weight = np.bincount(chosen, minlength=items).astype(np.float64) if rule.by == "popularity" else np.ones(items)
    mass = np.cumsum(weight + (0.01 if rule.by == "popularity" else 0.0))
    if items < 2 * (rule.per_click + 1):
        raise StreamError(f"negatives: {items} items are too few to draw {rule.per_click} per click; lower per_click")
    clicked = np.unique(user * items + chosen)
    shown = np.concatenate([chosen[:, None], np.full((len(row), rule.per_click), NO_ITEM)], axis=1)
    todo = np.zeros(shown.shape, dtype=bool)
    todo[:, 1:] = True
    for _ in range(50):
        picked = np.searchsorted(mass, rng.random(int(todo.sum())) * mass[-1], side="right")
        shown[todo] = np.minimum(picked, items - 1)
        ordered = np.argsort(shown, axis=1, kind="stable")
        ranked = np.take_along_axis(shown, ordered, axis=1)
        twice = np.zeros(shown.shape, dtype=bool)
        np.put_along_axis(twice, ordered[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
        todo = twice | np.isin(user[:, None] * items + shown, clicked)
        todo[:, 0] = False
        if not todo.any():
            break
    shown[todo] = NO_ITEM  # a user who clicked nearly everything gets fewer
    order = np.argsort(rng.random(shown.shape), axis=1)
    shown, click = np.take_along_axis(shown, order, axis=1), order == 0
    converted, relevance = (
        None if values is None else _beside_drawn(values[row, column], order)
        for values in (log.logged_delays, log.relevance)
    )
    return log_chunk(log.time[row], user, log.domain[row], shown, click, converted, log.query_of(row), relevance)


def _beside_drawn(values: NDArray[np.float32], order: NDArray[np.int64]) -> NDArray[np.float32]:
    """The values of the clicks, `(n,)`, where `order`, `(n, k)`, shows them; what is drawn has none."""
    first = np.full(order.shape, np.nan, dtype=np.float32)
    first[:, 0] = values
    return np.take_along_axis(first, order, axis=1)

"""Users' histories at the time of each request of the pretraining log: the training input of a user encoder."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.backbone.examples import Examples
from model.config import HistorySpec
from model.encoding.history import PAD, PastEvents


def past_events(examples: Examples, spec: HistorySpec, asked: Examples | None = None) -> PastEvents:
    """What each user had done before each of the `asked` examples, by default `examples`, as it would have been served.

    The events are those in `examples`. A request sees an event only if it is more than `spec.delay_s` later, so it
    never sees itself or an event whose label was not decided yet.
    """
    asked = examples if asked is None else asked
    known = np.flatnonzero(examples.label > 0) if not spec.skips else np.arange(len(examples))
    known = known[np.lexsort((examples.item[known], examples.time[known], examples.user[known]))]
    moments, moment = np.unique(np.stack([asked.user.astype(np.float64), asked.time]), axis=1, return_inverse=True)
    user, now = moments[0].astype(np.int64), moments[1]
    first = np.searchsorted(examples.user[known], user, side="left")
    end = _before(examples, known, user, now - spec.delay_s)
    begin = np.maximum(end - spec.length, first)
    place = begin[:, None] + np.arange(spec.length)
    there = place < end[:, None]
    event = known[np.where(there, place, 0)] if len(known) else np.zeros_like(place)
    return PastEvents(
        item=np.where(there, examples.item[event], PAD).astype(np.int32),
        age=np.where(there, now[:, None] - examples.time[event], 0.0).astype(np.float32),
        clicked=there & (examples.label[event] > 0),
        moment=moment.reshape(-1).astype(np.int64),
    )


def _before(
    examples: Examples, known: NDArray[np.int64], user: NDArray[np.int64], time: NDArray[np.float64]
) -> NDArray[np.int64]:
    """For each user and time, the number of that user's `known` events before that time, as an end position."""
    users = np.concatenate([examples.user[known], user])
    times = np.concatenate([examples.time[known], time])
    asks = np.concatenate([np.ones(len(known)), np.zeros(len(user))])  # at equal times a query sorts before an event
    order = np.lexsort((asks, times, users))
    counted = np.cumsum(asks[order]).astype(np.int64)
    end = np.empty(len(order), dtype=np.int64)
    end[order] = counted
    return end[len(known) :]

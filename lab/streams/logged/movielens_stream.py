"""MovieLens 100K as a stream: its own requests and halves, as they were recorded or with its sessions side by side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from features.config import FeatureConfig
from lab.streams.conversions import Conversions
from lab.streams.logged.logs import LoggedStream
from lab.streams.logged.movielens import MovieLens, domain_values
from lab.streams.logged.movielens_search import with_queries
from lab.streams.logged.rows import log_chunk
from lab.streams.pacing import Pace, plan
from lab.streams.stream import NO_ITEM, Catalogue, Chunk
from model.encoding.domain import DomainSpace

MOVIELENS, MOVIELENS_SESSIONS, MOVIELENS_FAVOURITES = "movielens-100k", "movielens-sessions", "movielens-favourites"
MOVIELENS_SEARCH = "movielens-search"
FAVOURITE_RATING = 5
"""Rating that counts as a conversion in `movielens-favourites`; it is one of the ratings that are clicks."""
SESSION_PACE = Pace(session_s=math.inf)
"""The replay's own pace, but that even the heaviest user waits for his labels."""
PLAYED_HOUR_S = 3_600.0
"""Stream time of a second of that pace: a user pauses an hour, twice the half hour in which labels are decided."""


def movielens_stream(data: MovieLens, config: FeatureConfig | None = None) -> LoggedStream:
    """The data set as `lab.streams.logged.movielens` loads it; its fields are those that `config` names."""
    config = config or FeatureConfig()
    space = DomainSpace(domain_values())
    user_index = {user.user_id: index for index, user in enumerate(data.users)}
    item_index = {item.item_id: index for index, item in enumerate(data.items)}
    before, after = data.requests("pretrain"), data.requests("live")
    requests = [*before, *after]
    width = max(len(request.items) for request in requests)
    items = np.full((len(requests), width), NO_ITEM, dtype=np.int64)
    clicks = np.zeros((len(requests), width), dtype=bool)
    for row, request in enumerate(requests):
        items[row, : len(request.items)] = [item_index[item] for item in request.items]
        clicks[row, : len(request.clicks)] = request.clicks
    log = log_chunk(
        np.array([request.time for request in requests]),
        np.array([user_index[request.user_id] for request in requests], dtype=np.int64),
        space.encode_many([request.domain for request in requests]),
        items,
        clicks,
    )
    catalogue = Catalogue(tuple(data.users), tuple(data.items), space, config.user_fields, config.item_fields)
    ratings = _ratings(data, space, user_index, item_index)
    return LoggedStream(MOVIELENS, catalogue, log, len(before), rated=ratings)


def movielens_sessions(data: MovieLens) -> LoggedStream:
    """MovieLens with interleaved sessions: a user returns only after the labels of the last request are known.

    MovieLens users rate many films within minutes, and hardly two users at a time. In recorded order a session is over
    before its first label is decided, and most of it falls into one batch. Here other users' requests come in between,
    in the order of a replay at `SESSION_PACE` (docs/decisions/0069). First half and domains are as recorded.
    """
    recorded = movielens_stream(data)
    live = recorded.log.rows(slice(recorded.split, None))
    slots = plan([str(user) for user in live.user], SESSION_PACE)
    played = replace(
        live.rows(np.array([slot.index for slot in slots])),
        time=live.time[0] + PLAYED_HOUR_S * np.array([slot.at for slot in slots]),
    )
    log = Chunk.concat([recorded.log.rows(slice(0, recorded.split)), played])
    return replace(recorded, name=MOVIELENS_SESSIONS, log=log)


def movielens_favourites(data: MovieLens) -> LoggedStream:
    """MovieLens with five stars as the conversion of a click, at the moment of the click (docs/decisions/0128)."""
    recorded = movielens_stream(data)
    users = {user.user_id: number for number, user in enumerate(data.users)}
    items = {item.item_id: number for number, item in enumerate(data.items)}
    favourite = np.zeros((len(users), len(items)), dtype=bool)
    for rating in data.ratings:
        favourite[users[rating.user_id], items[rating.item_id]] = rating.rating >= FAVOURITE_RATING
    assert recorded.rated is not None
    log, rated = _with_favourites(recorded.log, favourite), _with_favourites(recorded.rated, favourite)
    return replace(recorded, name=MOVIELENS_FAVOURITES, log=log, rated=rated)


def _with_favourites(chunk: Chunk, favourite: NDArray[np.bool_]) -> Chunk:
    """The chunk with clicks on favourites converted at once; `favourite` is a table of users by items."""
    happened = chunk.click & favourite[chunk.user[:, None], chunk.items]
    at_once, unknown = np.zeros(happened.shape, np.float32), np.full(happened.shape, np.nan, np.float32)
    return replace(chunk, conversions=Conversions(happened, at_once, unknown))


def movielens_search(data: MovieLens) -> LoggedStream:
    """MovieLens with queries in half of the requests, for what their user likes next (docs/decisions/0132)."""
    return replace(with_queries(movielens_stream(data)), name=MOVIELENS_SEARCH)


MOVIELENS_STREAMS: dict[str, Callable[[MovieLens], LoggedStream]] = {
    MOVIELENS: movielens_stream,
    MOVIELENS_SESSIONS: movielens_sessions,
    MOVIELENS_FAVOURITES: movielens_favourites,
    MOVIELENS_SEARCH: movielens_search,
}
"""The ways in which MovieLens 100K is played, by name."""
MOVIELENS_TITLES = {
    MOVIELENS: "",
    MOVIELENS_SESSIONS: ", sessions side by side",
    MOVIELENS_FAVOURITES: ", favourites as conversions",
    MOVIELENS_SEARCH: ", half of the requests with a query",
}
"""Additions to the data set's name in titles."""


def _ratings(data: MovieLens, space: DomainSpace, user_index: dict[str, int], item_index: dict[str, int]) -> Chunk:
    """The first half rating by rating: each has a time of its own, which a request of ten would hide."""
    half = data.half("pretrain")
    return log_chunk(
        np.array([rating.time for rating in half], dtype=np.float64),
        np.array([user_index[rating.user_id] for rating in half], dtype=np.int64),
        space.encode_many([data.domain(rating) for rating in half]),
        np.array([[item_index[rating.item_id]] for rating in half], dtype=np.int64),
        np.array([[rating.click] for rating in half], dtype=bool),
    )

"""MovieLens 100K as a stream: its own requests and halves."""

from __future__ import annotations

import numpy as np

from features.config import FeatureConfig
from lab.streams.logged.logs import LoggedStream
from lab.streams.logged.movielens import MovieLens, domain_values
from lab.streams.logged.rows import log_chunk
from lab.streams.stream import NO_ITEM, Catalogue, Chunk
from model.encoding.domain import DomainSpace

MOVIELENS = "movielens-100k"


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

"""Queries for MovieLens 100K, which has none: a query describes what its user likes next (ours).

A query must not reveal the label of a candidate. It is therefore made of the genres of the first film that the user
likes in the *next* request of the same session. None of its films is a candidate here, because MovieLens users rate a
film once. So the query reveals the mood of the session and not which of the present candidates was liked
(docs/decisions/0132). Half of the requests, drawn by a hash of user and time, have a query; the others, and those
without such a film, are recommendations.
"""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lab.streams.logged.logs import LoggedStream
from lab.streams.logged.movielens import SESSION_GAP_S
from lab.streams.stream import Chunk
from model.config import NO_QUERY
from model.encoding.spelling import spell_list

_MOST_GENRES = 2


def with_queries(recorded: LoggedStream) -> LoggedStream:
    """The same stream with queries in both halves; none of the first half knows of the second."""
    texts = _asked_texts(recorded)
    queries = sorted({text for text in texts if text})
    place = {text: number for number, text in enumerate(queries)}
    query = np.array([place[text] if text else NO_QUERY for text in texts], dtype=np.int64)
    log = replace(recorded.log, query=query)
    rated = None if recorded.rated is None else _as_in(recorded.rated, log.rows(slice(0, recorded.split)))
    catalogue = replace(recorded.catalogue, queries=tuple(queries))
    return replace(recorded, catalogue=catalogue, log=log, rated=rated)


def _asked_texts(recorded: LoggedStream) -> list[str]:
    """Query of each request; empty for a recommendation."""
    log, catalogue = recorded.log, recorded.catalogue
    texts = [""] * len(log)
    following: dict[int, int] = {}
    for row in range(len(log) - 1, -1, -1):
        user, after = int(log.user[row]), following.get(int(log.user[row]))
        following[user] = row
        if after is None or (row < recorded.split) != (after < recorded.split):
            continue
        if log.time[after] - log.time[row] <= SESSION_GAP_S and _asks(catalogue.users[user].user_id, log.time[row]):
            texts[row] = _wanted(recorded, after)
    return texts


def _asks(user_id: str, time: float) -> bool:
    return zlib.crc32(f"{user_id} {time:.0f}".encode()) % 2 == 0


def _wanted(recorded: LoggedStream, row: int) -> str:
    """The genres of the first film that is liked in a request and has any; empty if none is."""
    log = recorded.log
    for item in log.items[row][log.click[row]].tolist():
        genres = spell_list(recorded.catalogue.items[item].fields.get("genres"))
        if genres:
            return " ".join(genres[:_MOST_GENRES]).lower()
    return ""


def _as_in(rated: Chunk, log: Chunk) -> Chunk:
    """The ratings of a half with the queries of their requests; a user rates a film once."""
    shown = np.flatnonzero(log.shown.ravel())
    row = np.repeat(np.arange(len(log)), log.items.shape[1])[shown]
    key = _key(log.user[row], log.items.ravel()[shown])
    order = np.argsort(key)
    found = order[np.searchsorted(key[order], _key(rated.user, rated.items[:, 0]))]
    assert log.query is not None
    return replace(rated, query=log.query[row[found]])


def _key(user: NDArray[np.int64], item: NDArray[np.int64]) -> NDArray[np.int64]:
    return user * 1_000_000 + item

"""Queries as a backbone reads them: the text of each is encoded once and kept in memory, never on disk.

Whoever types makes up queries without end: they may push out each other, but not fill a disk or the items' texts.
"""

from __future__ import annotations

import math
import sys
import time as clock

import numpy as np

from features.cache import Cache
from features.config import FeatureConfig
from features.text import TextEncoder
from model.encoding.features import FeatureEncoder
from model.encoding.query import EncodedQuery, QueryFeatures

_OBJECT_BYTES = 400
"""Of an encoded query beside the numbers of its text vector."""


def query_bytes(query: EncodedQuery) -> int:
    """Bytes that a query takes in memory."""
    return _OBJECT_BYTES + sum(sys.getsizeof(array) for array in (query.words, query.weight, query.text))


class QueryTexts:
    """Encodes queries. The language model is loaded with the first one, if the backbone knows queries by their text."""

    def __init__(self, encoder: FeatureEncoder, config: FeatureConfig, *, by_text: bool) -> None:
        self._encoder = encoder
        # A vector never changes, so it never expires: the limit alone makes room.
        self._kept: Cache[EncodedQuery] = Cache(config.query_cache_bytes, math.inf, clock.monotonic, query_bytes)
        self._text = TextEncoder(config.text_model, None, config.max_text) if by_text else None

    def knows(self, query: str) -> bool:
        """Whether `encode` takes no language model: it keeps this query, or queries are known by their words alone."""
        return self._text is None or self._kept.get(query) is not None

    def encode(self, query: str) -> EncodedQuery:
        """Rows and text vector of a query. Raises TextModelUnavailableError when the first one comes.

        May be called on any thread, on one at a time for queries that it does not know.
        """
        kept = self._kept.get(query)
        if kept is None:
            if self._text is None:
                vector = np.zeros(self._encoder.text_width, dtype=np.float32)
            else:
                vector = self._text.encode([query])[0]
            kept = self._encoder.encode_query(QueryFeatures(query, vector))
            self._kept.put(query, kept)
        return kept

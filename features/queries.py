"""Encoding of queries for the backbone: each text is encoded once and cached in memory, never on disk.

Users make up queries without end. In memory they may push out each other; on disk they would fill it, and push out the
texts of items.
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
"""Memory of an encoded query besides the numbers of its text vector."""


def query_bytes(query: EncodedQuery) -> int:
    """Memory of an encoded query, bytes."""
    return _OBJECT_BYTES + sum(sys.getsizeof(array) for array in (query.words, query.weight, query.text))


class QueryTexts:
    """Encodes queries. If the backbone knows queries by text, the first one loads the language model."""

    def __init__(self, encoder: FeatureEncoder, config: FeatureConfig, *, by_text: bool) -> None:
        self._encoder = encoder
        # A text's vector never changes, so entries do not expire; only the limit drops them.
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

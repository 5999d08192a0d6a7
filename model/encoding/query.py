"""Queries as the backbone reads them: text vector and hashed words of a query, and the queries of many requests."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.config import NO_QUERY

WORD_ROWS = 4_096
"""Rows of the word table; row 0 stands for no word. A word's row is a hash, so there is no vocabulary to grow."""
MAX_WORDS = 12
"""Words of a query that are looked up, the first ones; its text vector covers all of them."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class QueryFeatures:
    """A query with the vector of its text, float32 `(text_width,)`."""

    query: str
    text: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EncodedQuery:
    """Rows and text vector of one query."""

    words: NDArray[np.int64]
    """Rows of its words, `(MAX_WORDS,)`; 0 after the last word."""
    weight: NDArray[np.float32]
    """Weights of the words, which sum to 1, `(MAX_WORDS,)`."""
    text: NDArray[np.float32]

    @staticmethod
    def of(query: str, text: NDArray[np.float32]) -> EncodedQuery:
        """Encodes a query; case is ignored. Raises ValueError for a text vector that is not finite."""
        if not np.isfinite(text).all():
            raise ValueError(f"query {query!r}: text vector has non-finite values")
        rows = [word_row(word) for word in words_of(query)[:MAX_WORDS]]
        words, weight = np.zeros(MAX_WORDS, dtype=np.int64), np.zeros(MAX_WORDS, dtype=np.float32)
        words[: len(rows)], weight[: len(rows)] = rows, 1.0 / max(len(rows), 1)
        return EncodedQuery(words, weight, np.ascontiguousarray(text, dtype=np.float32))


def words_of(text: str) -> list[str]:
    """The words of a text in order, whatever their case."""
    return _WORD.findall(text.casefold())


def word_row(word: str) -> int:
    """Row of a word, never 0."""
    return 1 + zlib.crc32(word.encode("utf-8", "replace")) % (WORD_ROWS - 1)


@dataclass(frozen=True)
class Queries:
    """`q` distinct queries, each encoded once, and the index of the query that each of `u` requests carries."""

    words: Tensor
    """Rows in the table of words, int64 `(q, w)`."""
    weight: Tensor
    """Weights of the words, float32 `(q, w)`."""
    text: Tensor
    """Text vectors, float32 `(q, t)`."""
    of: Tensor
    """Index of each request's query, or of each pair's if there is a user per pair; `NO_QUERY` for a request without
    one; int64 `(u,)`."""

    @staticmethod
    def one(query: EncodedQuery) -> Queries:
        """The query of one request."""
        return Queries.table([query], query.text.shape[0]).asked(torch.zeros(1, dtype=torch.int64))

    @staticmethod
    def table(queries: Sequence[EncodedQuery], text_width: int) -> Queries:
        """A table of queries that belongs to no request yet; `asked` adds the requests."""
        return Queries(
            words=torch.from_numpy(np.stack([q.words for q in queries]) if queries else np.zeros((0, MAX_WORDS), int)),
            weight=torch.from_numpy(
                np.stack([q.weight for q in queries]) if queries else np.zeros((0, MAX_WORDS), np.float32)
            ),
            text=torch.from_numpy(
                np.stack([q.text for q in queries]) if queries else np.zeros((0, text_width), np.float32)
            ),
            of=torch.zeros(0, dtype=torch.int64),
        )

    @property
    def there(self) -> Tensor:
        """Mask of the requests that carry a query, bool `(u,)`."""
        return self.of != NO_QUERY

    def asked(self, of: Tensor) -> Queries:
        """The requests whose queries have the indices `of`; queries that no request carries are dropped."""
        at, place = torch.unique(of, return_inverse=True)
        if len(at) and at[0] == NO_QUERY:
            at, place = at[1:], place - 1
        return Queries(self.words[at], self.weight[at], self.text[at], place)

    def pairs(self, index: Tensor) -> Queries:
        """The queries of the requests or pairs `index`, int64 `(m,)`."""
        return replace(self, of=self.of[index])

    def repeated(self, count: int) -> Queries:
        """The query of one request, repeated for each of `count` pairs."""
        return replace(self, of=self.of.expand(count))

    @staticmethod
    def side_by_side(parts: Sequence[Queries]) -> Queries:
        """The requests of all parts together."""
        first = accumulate((len(part.text) for part in parts), initial=0)
        moved = [torch.where(part.there, part.of + at, NO_QUERY) for part, at in zip(parts, first, strict=False)]
        return Queries(
            words=torch.cat([part.words for part in parts]),
            weight=torch.cat([part.weight for part in parts]),
            text=torch.cat([part.text for part in parts]),
            of=torch.cat(moved),
        )

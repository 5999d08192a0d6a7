"""What a backbone learns from, which its stream must know of."""

from __future__ import annotations

from collections.abc import Sequence

from lab.streams.stream import Stream, StreamError
from model.config import BackboneConfig


def ensure_learnable(backbone: BackboneConfig, stream: Stream) -> None:
    """Raises StreamError, naming the key, if the backbone should learn something that the stream knows nothing of."""
    ensure_conversions(backbone.tasks, stream)
    ensure_queries(backbone.query_aspects, stream)
    ensure_relevance(backbone.relevance_weight, stream)


def ensure_conversions(tasks: str, stream: Stream) -> None:
    """Raises StreamError if a backbone of `tasks` should learn conversions but the stream has none."""
    if tasks == "ctr_ctcvr" and not stream.converts:
        raise StreamError(
            f'backbone.tasks is "ctr_ctcvr", but the stream {stream.name} knows of no conversions: name them '
            "(`interactions.conversion` of a mapping, `conversions` of a script), take a stream that has them "
            '(--script shop, --mapping movielens-favourites), or set backbone.tasks = "ctr"'
        )


def ensure_queries(aspects: Sequence[str], stream: Stream) -> None:
    """Raises StreamError if a backbone that knows queries by `aspects` is to learn from a stream without any."""
    if aspects and not stream.searches:
        raise StreamError(
            f"backbone.query_aspects is {', '.join(aspects)}, but no request of the stream {stream.name} carries a "
            "query: name one (`interactions.query` of a mapping, `queries` of a script), take a stream that has them "
            "(--script search, --mapping movielens-search), or leave backbone.query_aspects empty"
        )


def ensure_relevance(weight: float, stream: Stream) -> None:
    """Raises StreamError if a backbone should learn relevance, by `weight`, but nobody judged items of the stream."""
    if weight and not stream.judges:
        raise StreamError(
            f"backbone.relevance_weight is {weight:g}, but the stream {stream.name} does not say how relevant an item "
            "is to a query: name it (`interactions.relevance` of a mapping, `queries.judged` of a script), take a "
            "stream that has it (--script search), or set backbone.relevance_weight = 0"
        )

"""Streams of requests: scripted drift over real items, and logs of real traffic."""

from lab.streams.request import Request
from lab.streams.required import ensure_conversions, ensure_learnable, ensure_queries, ensure_relevance
from lab.streams.scripted.script import (
    Script,
    conversion_suite,
    find_script,
    load_script,
    parse_script,
    search_suite,
    standard_suite,
    unmatched_suite,
)
from lab.streams.scripted.simulator import ScriptedStream
from lab.streams.scripted.truth import oracle_auc, oracle_log_loss
from lab.streams.scripted.world import RealItems
from lab.streams.stream import (
    NO_ITEM,
    Catalogue,
    Chunk,
    DriftSpan,
    Stream,
    StreamError,
    requests,
)

__all__ = [
    "NO_ITEM",
    "Catalogue",
    "Chunk",
    "DriftSpan",
    "RealItems",
    "Request",
    "Script",
    "ScriptedStream",
    "Stream",
    "StreamError",
    "conversion_suite",
    "ensure_conversions",
    "ensure_learnable",
    "ensure_queries",
    "ensure_relevance",
    "find_script",
    "load_script",
    "oracle_auc",
    "oracle_log_loss",
    "parse_script",
    "requests",
    "search_suite",
    "standard_suite",
    "unmatched_suite",
]

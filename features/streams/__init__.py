"""Streams of requests: scripted drift over real items, and logs of real traffic."""

from features.request import Request
from features.streams.script import Script, find_script, load_script, parse_script, standard_suite
from features.streams.simulator import ScriptedStream
from features.streams.stream import (
    NO_ITEM,
    Catalogue,
    Chunk,
    DriftSpan,
    Stream,
    StreamError,
    requests,
)
from features.streams.truth import oracle_auc, oracle_log_loss
from features.streams.world import RealItems

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
    "find_script",
    "load_script",
    "oracle_auc",
    "oracle_log_loss",
    "parse_script",
    "requests",
    "standard_suite",
]

"""Streams of requests: scripted drift over real items, and logs of real traffic."""

from features.streams.script import Script, load_script, parse_script, standard_suite
from features.streams.simulator import ScriptedStream
from features.streams.stream import (
    NO_ITEM,
    Catalogue,
    Chunk,
    DriftSpan,
    Stream,
    StreamError,
    StreamRequest,
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
    "Script",
    "ScriptedStream",
    "Stream",
    "StreamError",
    "StreamRequest",
    "load_script",
    "oracle_auc",
    "oracle_log_loss",
    "parse_script",
    "requests",
    "standard_suite",
]

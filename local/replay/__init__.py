"""Recorded requests as live traffic: planned, sent to the scorer, and their clicks as feedback."""

from lab.streams.pacing import Pace
from local.replay.player import ScorerGoneError
from local.replay.result import ReplayResult
from local.replay.run import run_replay

__all__ = ["Pace", "ReplayResult", "ScorerGoneError", "run_replay"]

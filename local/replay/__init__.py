"""Recorded requests as live traffic: planned, sent to the scorer, and their clicks as feedback."""

from lab.streams.pacing import Pace
from local.replay.played import Played
from local.replay.player import ScorerGoneError
from local.replay.run import run_replay

__all__ = ["Pace", "Played", "ScorerGoneError", "run_replay"]

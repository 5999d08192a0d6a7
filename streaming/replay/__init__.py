"""Recorded requests as live traffic: planned, sent to the scorer, and their clicks as feedback."""

from streaming.replay.played import Played
from streaming.replay.player import ScorerGoneError
from streaming.replay.run import run_replay
from streaming.replay.schedule import Pace

__all__ = ["Pace", "Played", "ScorerGoneError", "run_replay"]

"""Applies a monitor to the recorded play of one stream and seed, and scores its announcements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.detection.announcements import announcements
from lab.detection.episodes import Episode
from lab.detection.plays import Arms, PlayedStream, played
from lab.detection.score import Score, score
from lab.evaluate.plan import Plan
from lab.played.record import Judged
from lab.streams.sources import Source
from lab.verdict_bands import Band, bands
from model.drift.config import DriftConfig
from model.drift.monitor import DriftMonitor
from model.drift.reference import Reference
from model.drift.verdict import Verdict
from model.gate.seen import Strata


@dataclass(frozen=True)
class Drawn:
    """Data for the picture of a stream."""

    arms: Arms
    bands: tuple[Band, ...]
    """Verdicts, by event time."""
    episodes: tuple[Episode, ...]
    time: NDArray[np.float64]
    """Of each example."""


@dataclass(frozen=True)
class Trial:
    """Scores of one stream and seed."""

    stream: str
    seed: int
    examples: int
    scores: dict[str, Score]
    """By detector."""
    drawn: Drawn | None


def try_stream(plan: Plan, source: Source, seed: int, name: str, *, configs: Sequence[DriftConfig]) -> list[Trial]:
    """Plays the named stream unless a recording exists, and scores a monitor of each configuration on it."""
    one = played(plan, source, seed, name)
    return [trial(name, seed, one, config, draw=seed == plan.seeds[0]) for config in configs]


def trial(name: str, seed: int, one: PlayedStream, config: DriftConfig, *, draw: bool) -> Trial:
    """Scores the announcements of a monitor with `config` on a recorded play."""
    strata = Strata(one.traffic.space.values)
    said = one.record.heard_by(DriftMonitor(strata, reference(one), config))
    judged = [call.time for call in one.record.calls if isinstance(call, Judged)]
    heard = announcements(said, strata, judged)
    scores = {detector: score(told, one.episodes, one.traffic) for detector, told in heard.items()}
    drawn = None
    if draw:
        verdicts = [(told.time, told.what) for told in said if isinstance(told.what, Verdict)]
        time = one.traffic.time[one.arms.request]
        drawn = Drawn(one.arms, tuple(bands(verdicts, float(time[-1]))), one.episodes, time)
    return Trial(name, seed, int(one.traffic.examples.sum()), scores, drawn)


def reference(one: PlayedStream) -> Reference | None:
    """The drift reference of a recorded play."""
    window, sizes = one.window, one.traffic.space.sizes
    return Reference.of(window.x, window.frozen, window.label, window.domain, sizes)

"""Applies a monitor to the recorded replay of one stream and seed, and scores its announcements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.detection.detections import detections
from lab.detection.episodes import Episode
from lab.detection.recordings import Arms, RecordedStream, recorded_stream
from lab.detection.score import Score, score
from lab.evaluate.plan import Plan
from lab.replay.record import JudgeCall
from lab.streams.sources import Source
from lab.verdict_bands import Band, bands
from model.drift.config import DriftConfig
from model.drift.monitor import DriftMonitor
from model.drift.reference import Reference
from model.drift.verdict import Verdict
from model.gate.scored_examples import Strata


@dataclass(frozen=True)
class Drawn:
    """What the picture of a stream shows: arms, verdicts and episodes over event time."""

    arms: Arms
    bands: tuple[Band, ...]
    """Verdicts, by event time."""
    episodes: tuple[Episode, ...]
    time: NDArray[np.float64]
    """Of each example."""


@dataclass(frozen=True)
class Trial:
    """Scores of every detector on one stream and seed."""

    stream: str
    seed: int
    examples: int
    scores: dict[str, Score]
    """By detector."""
    drawn: Drawn | None


def run_detection_trial(
    plan: Plan, source: Source, seed: int, name: str, *, configs: Sequence[DriftConfig]
) -> list[Trial]:
    """Replays the named stream unless a recording exists, and scores a monitor of each configuration on it."""
    recording = recorded_stream(plan, source, seed, name)
    return [trial(name, seed, recording, config, draw=seed == plan.seeds[0]) for config in configs]


def trial(name: str, seed: int, recording: RecordedStream, config: DriftConfig, *, draw: bool) -> Trial:
    """Scores the announcements of a monitor with `config` on a recorded replay."""
    strata = Strata(recording.traffic.space.values)
    outputs = recording.record.replay(DriftMonitor(strata, reference(recording), config))
    judged = [call.time for call in recording.record.calls if isinstance(call, JudgeCall)]
    by_detector = detections(outputs, strata, judged)
    scores = {detector: score(found, recording.episodes, recording.traffic) for detector, found in by_detector.items()}
    drawn = None
    if draw:
        verdicts = [(found.time, found.output) for found in outputs if isinstance(found.output, Verdict)]
        time = recording.traffic.time[recording.arms.request]
        drawn = Drawn(recording.arms, tuple(bands(verdicts, float(time[-1]))), recording.episodes, time)
    return Trial(name, seed, int(recording.traffic.examples.sum()), scores, drawn)


def reference(recording: RecordedStream) -> Reference | None:
    """The drift reference of a recorded replay."""
    window, sizes = recording.window, recording.traffic.space.sizes
    return Reference.of(window.x, window.frozen, window.label, window.domain, sizes)

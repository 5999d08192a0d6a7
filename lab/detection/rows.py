"""The trials of an evaluation put together: a row per stream and detector, and how well the goals are met."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from scipy import special  # type: ignore[import-untyped,unused-ignore]

from lab.detection.detections import ALWAYS, NEVER, VERDICT
from lab.detection.episodes import Origin
from lab.detection.scenarios import NO_DRIFT
from lab.detection.score import WITHIN, EpisodeResult, Score
from lab.detection.trial import Trial
from lab.intervals import CONFIDENCE, Interval, interval

_NOTHING = Score((), 0, 0)


@dataclass(frozen=True)
class DetectorRow:
    """One detector on one stream, over the seeds."""

    stream: str
    detector: str
    episodes: int
    recalled: int
    """Announced in time."""
    right_cause: float | None
    """Share of the recalled episodes; None if none was recalled."""
    delay_examples: float | None
    """Median over the recalled."""
    false_alarms_per_million: float | None
    """None if there was an episode all the time."""


@dataclass(frozen=True)
class Total:
    """One detector over all streams and seeds."""

    detector: str
    recalled: Interval
    """Share of the required episodes that were recalled, over the seeds."""
    right: Interval
    """Share of them that were announced with the right cause."""
    delay_examples: float
    false_alarms: int
    """Number on the stream without drift."""
    per_million: tuple[float, float, float]
    """Number per million examples, with its exact 95 % interval (Garwood)."""


@dataclass(frozen=True)
class VerdictGoal:
    """A requirement on the verdict, and its result."""

    name: str
    wanted: str
    found: str
    met: bool | None
    """None if there are too few examples to decide."""


@dataclass(frozen=True)
class DetectorReport:
    """The report of `driftline evaluate --detectors`: rows by stream and detector, totals and goals."""

    seeds: tuple[int, ...]
    rows: tuple[DetectorRow, ...]
    totals: tuple[Total, ...]
    goals: tuple[VerdictGoal, ...]
    missed: tuple[str, ...]
    """Demanded episodes that the verdict did not announce in time, or with another cause."""
    examples: int
    """Examples in all."""
    stable_examples: int
    """Examples of the stream without drift."""

    def to_json(self) -> dict[str, Any]:
        """The report as plain values for `json.dumps`; NaN becomes None."""
        plain: dict[str, Any] = asdict(self)
        for total in plain["totals"]:
            total["delay_examples"] = None if math.isnan(total["delay_examples"]) else total["delay_examples"]
        return {**plain, "within_examples": WITHIN}


def report_of(trials: Sequence[Trial]) -> DetectorReport:
    """The report on all streams and seeds, for monitors of one configuration."""
    streams = list(dict.fromkeys(trial.stream for trial in trials))
    detectors = _in_order({name for trial in trials for name in trial.scores})
    without_drift = [trial for trial in trials if trial.stream == NO_DRIFT]
    return DetectorReport(
        seeds=tuple(dict.fromkeys(trial.seed for trial in trials)),
        rows=tuple(_row(stream, name, _of(trials, stream, name)) for stream in streams for name in detectors),
        totals=tuple(_total(name, trials) for name in detectors),
        goals=tuple(_goals(trials)),
        missed=tuple(_missed(trials)),
        examples=sum(trial.examples for trial in trials),
        stable_examples=sum(trial.examples for trial in without_drift),
    )


def _in_order(names: Iterable[str]) -> list[str]:
    """The verdict first, then the single detectors, then those that look at nothing."""
    return sorted(names, key=lambda name: (name in {ALWAYS, NEVER}, name != VERDICT, name))


def _of(trials: Sequence[Trial], stream: str, detector: str) -> list[Score]:
    """Scores of a detector on a stream. If it announced nothing there, it missed all of its episodes."""
    return [_score(trial, detector) for trial in trials if trial.stream == stream]


def _score(trial: Trial, detector: str) -> Score:
    never = trial.scores[NEVER]
    return trial.scores.get(detector, Score(never.found, 0, never.stable_examples))


def _row(stream: str, detector: str, scores: Sequence[Score]) -> DetectorRow:
    results = [result for score in scores for result in score.found]
    recalled = [result for result in results if result.detected_cause is not None]
    stable, false = sum(score.stable_examples for score in scores), sum(score.false_alarms for score in scores)
    return DetectorRow(
        stream=stream,
        detector=detector,
        episodes=len(results),
        recalled=len(recalled),
        right_cause=sum(result.correct for result in recalled) / len(recalled) if recalled else None,
        delay_examples=float(median(result.delay for result in recalled)) if recalled else None,
        false_alarms_per_million=1e6 * false / stable if stable else None,
    )


def _total(detector: str, trials: Sequence[Trial]) -> Total:
    recalled, correct, delays = [], [], []
    for seed in dict.fromkeys(trial.seed for trial in trials):
        results = [result for trial in trials if trial.seed == seed for result in _strong(_score(trial, detector))]
        recalled.append(_share(result.detected_cause is not None for result in results))
        correct.append(_share(result.correct for result in results))
        delays += [result.delay for result in results if result.detected_cause is not None]
    without_drift = [_score(trial, detector) for trial in trials if trial.stream == NO_DRIFT]
    false, stable = (
        sum(score.false_alarms for score in without_drift),
        sum(score.stable_examples for score in without_drift),
    )
    return Total(
        detector, interval(recalled), interval(correct), float(median(delays)) if delays else math.nan,
        false, rate(false, stable),
    )  # fmt: skip


def _strong(score: Score) -> list[EpisodeResult]:
    return [result for result in score.found if result.strong]


def _share(outcomes: Iterable[bool]) -> float:
    values = list(outcomes)
    return sum(values) / len(values) if values else math.nan


def rate(count: int, examples: int) -> tuple[float, float, float]:
    """Events per million examples with their exact Poisson interval; nan without examples.

    >>> [round(value, 2) for value in rate(0, 2_000_000)]
    [0.0, 0.0, 1.84]
    """
    if not examples:
        return math.nan, math.nan, math.nan
    tail, millions = (1 - CONFIDENCE) / 2, examples / 1e6
    low = float(special.gammaincinv(count, tail)) if count else 0.0
    return count / millions, low / millions, float(special.gammaincinv(count + 1, 1 - tail)) / millions


def _goals(trials: Sequence[Trial]) -> list[VerdictGoal]:
    """Those that the streams can show or refute: without wrong labels in them, nothing is said of labels."""
    found = [result for trial in trials for result in _strong(_score(trial, VERDICT))]
    goals = []
    for name, cause in (
        ("scripted drift of strength 0.7 and more", Origin.DRIFT),
        ("labels that come late or are wrong", Origin.LABELS),
    ):
        if of_cause := [result for result in found if result.cause is cause]:
            correct = sum(result.correct for result in of_cause)
            wanted = f"announced within {WITHIN:,} examples with the right cause"
            goals.append(VerdictGoal(name, wanted, f"{correct} of {len(of_cause)}", correct == len(of_cause)))
    return goals + _false_alarm_goals([_score(trial, VERDICT) for trial in trials if trial.stream == NO_DRIFT])


def _false_alarm_goals(without_drift: Sequence[Score]) -> list[VerdictGoal]:
    """The goal of false alarms; none if no stream is without drift."""
    false = sum(score.false_alarms for score in without_drift)
    stable = sum(score.stable_examples for score in without_drift)
    if not stable:
        return []
    per_million, low, high = rate(false, stable)
    found = f"{per_million:.2f} ({low:.2f} to {high:.2f}), {false} in {stable:,}"
    name = "false alarms per million examples without drift"
    return [VerdictGoal(name, "below 1", found, _below_one(per_million, high))]


def _below_one(rate_found: float, high: float) -> bool | None:
    """Whether the rate is below one per million; None if too few examples were seen to show it."""
    if high < 1:
        return True
    return None if not rate_found >= 1 else False


def _missed(trials: Sequence[Trial]) -> list[str]:
    lines = []
    for trial in trials:
        for result in _strong(_score(trial, VERDICT)):
            if result.detected_cause is None:
                lines.append(
                    f"{trial.stream}, seed {trial.seed}: {result.episode} ({result.cause}) was not announced in time"
                )
            elif not result.correct:
                episode = f"{trial.stream}, seed {trial.seed}: {result.episode} ({result.cause})"
                lines.append(f"{episode} was called {result.detected_cause}")
    return lines

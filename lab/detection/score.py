"""How well announcements match the episodes of a stream (docs/evaluation.md explains the rules)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.detection.episodes import Episode, Origin
from model.encoding.domain import DomainSpace

WITHIN = 2_000
"""Examples of its own domain within which an episode is to be announced, and for which its end may be."""
GROUP = "group"


@dataclass(frozen=True)
class Detection:
    """A change that a detector reports for one stratum."""

    time: float
    """Event time, s."""
    stratum: str
    cause: Origin | None
    """None: nothing is known to be the matter any more."""
    lasts: bool = True
    """Whether it holds until the next one of the stratum, as a verdict does; an alarm is of the moment."""


@dataclass(frozen=True)
class Traffic:
    """When how many examples of which domain were served: the clock that episodes are measured by."""

    time: NDArray[np.float64]
    """Event time of each request, ascending, s, `(r,)`."""
    examples: NDArray[np.int64]
    """Number of examples of each request, `(r,)`."""
    domain: NDArray[np.int64]
    """Facet indices, `(r, 3)`."""
    space: DomainSpace

    def count(self, episode: Episode, begin: float, end: float) -> int:
        """Examples of the episode's domain served from `begin` to `end`."""
        counted = (self.time >= begin) & (self.time <= end) & episode.inside(self.domain, self.space)
        return int(self.examples[counted].sum())

    def after(self, episode: Episode, begin: float) -> float:
        """When `WITHIN` examples of the episode's domain have been served from `begin` on; infinite if never."""
        in_domain = episode.inside(self.domain, self.space) & (self.time >= begin)
        passed = np.flatnonzero(np.cumsum(self.examples[in_domain]) >= WITHIN)
        return float(self.time[in_domain][passed[0]]) if len(passed) else float("inf")

    def outside(self, episodes: Sequence[Episode]) -> int:
        """Examples served while no episode of all domains was at work or had ended `WITHIN` examples ago."""
        stable = np.ones(len(self.time), dtype=np.bool_)
        for episode in episodes:
            if not episode.facets:
                stable &= (self.time < episode.begin) | (self.time > self.after(episode, episode.end))
        return int(self.examples[stable].sum())


@dataclass(frozen=True)
class EpisodeResult:
    """How a detector did on one episode."""

    episode: str
    cause: Origin
    detected_cause: Origin | None
    """The cause that was named last in time; None if the episode was not announced."""
    strong: bool
    """Whether the goals demand it."""
    delay: int
    """Examples of its domain from when it had to be announced to its first announcement; 0 if that came sooner."""

    @property
    def correct(self) -> bool:
        """Whether it was announced with the right cause."""
        return self.detected_cause is self.cause


@dataclass(frozen=True)
class Score:
    """Result of one detector on one stream and seed."""

    found: tuple[EpisodeResult, ...]
    """Results by episode."""
    false_alarms: int
    stable_examples: int
    """Examples over which false alarms were counted."""


def score(detections: Sequence[Detection], episodes: Sequence[Episode], traffic: Traffic) -> Score:
    """Announcements in the order in which they were made."""
    return Score(
        found=tuple(_episode_result(episode, episodes, detections, traffic) for episode in episodes),
        false_alarms=sum(
            detection.cause is not None and not _excused(detection, episodes, traffic) for detection in detections
        ),
        stable_examples=traffic.outside(episodes),
    )


def _excused(detection: Detection, episodes: Sequence[Episode], traffic: Traffic) -> bool:
    """Whether something was the matter with the stratum, or had ended lately: its end is a change, too."""
    return any(
        episode.touches(detection.stratum) and episode.begin <= detection.time <= traffic.after(episode, episode.end)
        for episode in episodes
    )


def _episode_result(
    episode: Episode, episodes: Sequence[Episode], detections: Sequence[Detection], traffic: Traffic
) -> EpisodeResult:
    until = traffic.after(episode, episode.full)
    relevant = [
        detection for detection in detections if detection.cause is not None and episode.concerns(detection.stratum)
    ]
    inside = [detection for detection in relevant if episode.begin <= detection.time <= until]
    if _already_detected(episode, episodes, detections):
        return EpisodeResult(episode.name, episode.cause, _last_cause(inside) or episode.cause, episode.strong, 0)
    if not inside:
        return EpisodeResult(episode.name, episode.cause, None, episode.strong, 0)
    delay = traffic.count(episode, episode.full, inside[0].time)
    return EpisodeResult(episode.name, episode.cause, _last_cause(inside), episode.strong, delay)


def _last_cause(inside: Sequence[Detection]) -> Origin | None:
    """The last announced cause; for an episode of the whole group, the group's own stratum decides."""
    of_group = [detection for detection in inside if detection.stratum == GROUP] or inside
    return of_group[-1].cause if of_group else None


def _already_detected(episode: Episode, episodes: Sequence[Episode], detections: Sequence[Detection]) -> bool:
    """Whether its cause is already announced because of an earlier episode of that cause that has not ended."""
    current: dict[str, Detection] = {}
    for detection in detections:
        if detection.time < episode.begin and detection.lasts and episode.concerns(detection.stratum):
            before = current.get(detection.stratum)
            if before is None or before.cause is not detection.cause:
                current[detection.stratum] = detection
    earlier = [other for other in episodes if other.cause is episode.cause and other.begin < episode.begin < other.end]
    return any(
        detection.cause is episode.cause
        and any(other.begin <= detection.time and other.touches(detection.stratum) for other in earlier)
        for detection in current.values()
    )

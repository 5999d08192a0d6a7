"""Announcements of drift in a replay, with their places in its plan, computed before the first request.

A drift span is given in recorded time. Its begin, the moment of full strength and its end are announced before the
first planned request that is not older. In the plan no request crosses a begin or an end, so the requests played
between two announcements are exactly those between them in the recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lab.streams import DriftSpan
from lab.streams.pacing import Pace, Slot, plan
from lab.streams.request import Request
from streaming.events import DriftEvent, DriftPhase
from streaming.events.announcements import MAX_NAME_BYTES

_ORDER: tuple[DriftPhase, ...] = ("ends", "begins", "full")
"""Order of the announcements of one moment: what was before ends first, or two of one name would be one."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """One announcement and its place in the play."""

    position: int
    """Index of the planned request before which it is made; the number of all requests for after the last one."""
    name: str
    phase: DriftPhase
    span: DriftSpan
    recorded: float | None
    """The moment in recorded time; None for an end that only the play has."""

    def event(self, now: float) -> DriftEvent:
        """The event that is sent at event time `now`."""
        return DriftEvent(
            name=self.name,
            kind=self.span.kind,
            phase=self.phase,
            time=now,
            domain={facet: list(values) for facet, values in self.span.domain.items()},  # type: ignore[misc]
            returns=self.span.returns,
            recorded=self.recorded,
        )


@dataclass(frozen=True)
class ReplayPlan:
    """The whole plan of a play: when each request is sent, and the announcements in between."""

    requests: Sequence[Request]
    slots: Sequence[Slot]
    announcements: Sequence[Announcement] = ()
    speed: float = float("inf")
    """Recorded seconds per second of the play: what recorded delays are divided by."""


def make_replay_plan(requests: Sequence[Request], spans: Sequence[DriftSpan], pace: Pace) -> ReplayPlan:
    """The plan of recorded requests, in time order, and the drift in them."""
    times = np.array([request.time for request in requests], dtype=np.float64)
    marks = [mark for span in spans for mark in (span.start, span.end)]
    slots = plan([request.user_id for request in requests], pace, np.searchsorted(times, marks).tolist())
    seconds = slots[-1].at if slots else 0.0
    speed = float(times[-1] - times[0]) / seconds if seconds > 0 and times[-1] > times[0] else float("inf")
    return ReplayPlan(requests, slots, announcements(spans, [float(times[slot.index]) for slot in slots]), speed)


def announcements(spans: Sequence[DriftSpan], played: Sequence[float]) -> list[Announcement]:
    """The announcements in a play of requests with these recorded times (seconds), in the order of the play.

    Drift that begins after the last request is not announced. Drift that has not ended by then is announced as ended
    after it, because nobody will announce its end later.
    """
    newest = np.maximum.accumulate(np.asarray(played, dtype=np.float64)) if len(played) else np.zeros(0)
    timed: list[tuple[float, Announcement]] = []
    for name, span in _named(spans):
        if not len(newest) or span.start > newest[-1]:
            continue
        for phase, time in _moments(span):
            position = int(np.searchsorted(newest, time))
            if position < len(newest):
                timed.append((time, Announcement(position, name, phase, span, time)))
            elif phase == "ends":
                timed.append((time, Announcement(position, name, phase, span, None)))
    timed.sort(key=lambda pair: (pair[1].position, pair[0], _ORDER.index(pair[1].phase)))
    return [announcement for _, announcement in timed]


def _moments(span: DriftSpan) -> Iterator[tuple[DriftPhase, float]]:
    yield "begins", span.start
    if span.start < span.full < span.end:
        yield "full", span.full
    yield "ends", span.end


def _named(spans: Iterable[DriftSpan]) -> Iterator[tuple[str, DriftSpan]]:
    """The spans with names that are short enough to announce, and different where two of one kind overlap."""
    open_until: dict[tuple[str, str], float] = {}
    for span in sorted(spans, key=lambda span: span.start):
        plain = short_name(span.name)
        name, number = plain, 1
        while open_until.get((name, span.kind), float("-inf")) > span.start:
            number += 1
            name = f"{short_name(plain, spare=4)} {number}"
        open_until[name, span.kind] = span.end
        yield name, span


def short_name(name: str, *, spare: int = 0) -> str:
    """`name` on one line, printable, at least `spare` bytes shorter than an announcement's name may be."""
    line = "".join(letter if letter.isprintable() else " " for letter in " ".join(name.split()))
    return line.encode()[: MAX_NAME_BYTES - spare].decode(errors="ignore").strip() or "drift"


def early_end(announcement: Announcement) -> Announcement:
    """The end of what this announced, for a play that is cut short."""
    return replace(announcement, phase="ends", recorded=None)

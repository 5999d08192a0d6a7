"""Times, users and domains of requests: sessions of many users at once, with a daily rhythm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.streams.scripted.drift_events import NewDomain
from lab.streams.scripted.effects import Clock, late_users
from lab.streams.scripted.script import Script
from lab.streams.scripted.world import EPOCH, World, stream_rng
from lab.streams.stream import Half
from model.encoding.domain import FACETS

DAY = 86_400.0
QUARTER = DAY / 4
RHYTHM = (0.10, 0.25, 0.30, 0.35)  # traffic of night, morning, afternoon, evening


@dataclass(frozen=True)
class Schedule:
    """All requests of one half, in time order."""

    time: NDArray[np.float64]
    user: NDArray[np.int64]
    domain: NDArray[np.int64]


def clock_of(script: Script) -> Clock:
    """Positions to event times: the live half begins after the whole days that pretraining takes."""
    before = script.days * script.pretrain_requests / script.requests
    return Clock(EPOCH + DAY * float(np.ceil(before)), script.days * DAY)


def make_schedule(world: World, half: Half) -> Schedule:
    """The requests of a half: times, users `(r,)` and facet indices `(r, 3)`."""
    script, clock = world.script, clock_of(world.script)
    count = script.requests if half == "live" else script.pretrain_requests
    begin, end = clock.start, clock.start + clock.seconds
    if half == "pretrain":
        begin, end = begin - script.days * DAY * count / script.requests, begin
    rng = stream_rng(script, "schedule", half)
    lengths = rng.geometric(1.0 / script.session, size=count)  # each at least one request: always enough
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), count)) + 1]
    lengths[-1] -= int(lengths.sum()) - count
    starts = _rhythmic(rng, len(lengths), begin, end)
    position = clock.position(starts)
    users = _users(world, rng, position)
    domain = _domains(world, rng, position, users)
    time, session = _spread(rng, starts, lengths, script.think_s, end)
    domain = domain[session]
    domain[:, FACETS.index("period")] = 1 + (np.mod(time, DAY) // QUARTER).astype(np.int64)
    return Schedule(time, users[session], domain)


def _rhythmic(rng: np.random.Generator, count: int, begin: float, end: float) -> NDArray[np.float64]:
    """Times between `begin` and `end` with the rhythm of the day, `(count,)`."""
    inner = np.arange(np.ceil(begin / QUARTER) * QUARTER, end, QUARTER)
    knots = np.unique(np.concatenate([[begin], inner, [end]]))
    quarter = (np.mod(knots[:-1], DAY) // QUARTER).astype(np.int64)
    mass = np.concatenate([[0.0], np.cumsum(np.asarray(RHYTHM)[quarter] * np.diff(knots))])
    return np.asarray(np.interp(rng.random(count) * mass[-1], mass, knots), dtype=np.float64)


def _spread(
    rng: np.random.Generator, starts: NDArray[np.float64], lengths: NDArray[np.int64], think_s: float, end: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Times of all requests, sorted, and the session of each."""
    session = np.repeat(np.arange(len(starts)), lengths)
    pause = rng.exponential(think_s, size=len(session))
    first = np.cumsum(lengths) - lengths
    pause[first] = 0.0
    run = np.cumsum(pause)
    time = np.minimum(starts[session] + run - run[first][session], np.nextafter(end, 0.0))
    order = np.argsort(time, kind="stable")
    return time[order], session[order]


def _users(world: World, rng: np.random.Generator, position: NDArray[np.float64]) -> NDArray[np.int64]:
    """User of each session: by activity; late users once they are there."""
    held = late_users(world)
    known = ~np.logical_or.reduce([mask for _, mask in held]) if held else np.ones(world.script.users, dtype=bool)
    chosen = _draw(rng, np.flatnonzero(known), world.activity, len(position))
    for event, mask in held:
        newcomers = np.flatnonzero(mask)
        coming = (rng.random(len(position)) < event.traffic) & (position >= event.at)
        if newcomers.size:
            chosen = np.where(coming, _draw(rng, newcomers, world.activity, len(position)), chosen)
    return chosen


def _draw(
    rng: np.random.Generator, users: NDArray[np.int64], activity: NDArray[np.float64], count: int
) -> NDArray[np.int64]:
    mass = np.cumsum(activity[users])
    picked = np.searchsorted(mass, rng.random(count) * mass[-1], side="right")
    return np.asarray(users[np.minimum(picked, len(users) - 1)])


def _domains(
    world: World, rng: np.random.Generator, position: NDArray[np.float64], users: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Facet indices of each session, `(sessions, 3)`; the period is filled in per request."""
    out = np.zeros((len(users), len(FACETS)), dtype=np.int64)
    shares = world.script.domains.get("scene", {})
    if shares:
        weights = np.array(list(shares.values()))
        out[:, 0] = 1 + rng.choice(len(shares), size=len(users), p=weights / weights.sum())
    out[:, 1] = world.region[users]
    for event in world.script.events:
        if isinstance(event, NewDomain):
            there = (rng.random(len(users)) < event.traffic) & (position >= event.at)
            out[there, FACETS.index(event.facet)] = world.space.values[event.facet].index(event.value)
    return out

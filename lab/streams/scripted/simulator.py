"""A scripted stream: what is shown, what is clicked, and the truth beside it. Vectorised over requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lab.streams.scripted.drift_events import (
    CorruptedLabels,
    LabelDelay,
    NewDomain,
    NewItems,
    Popularity,
    Taste,
    Window,
)
from lab.streams.scripted.effects import domains_of, edges, items_of, level, spans, users_of
from lab.streams.scripted.script import Script
from lab.streams.scripted.sessions import Schedule, clock_of, make_schedule
from lab.streams.scripted.world import Matrix, RealItems, World, stream_rng
from lab.streams.stream import Catalogue, Chunk, DriftSpan, Half, rechunk

BLOCK = 2_048  # requests simulated at once; part of the seed, so it never changes with the chunk size
CALIBRATION = 2_000


@dataclass(frozen=True)
class _Plan:
    """An event with everything about it that does not depend on the request."""

    event: Taste | Popularity | NewItems | NewDomain | LabelDelay | CorruptedLabels
    users: NDArray[np.bool_]
    items: NDArray[np.bool_]
    taste: Matrix


class ScriptedStream:
    """Requests of a script over real items; equal for equal scripts, whatever the chunk size."""

    def __init__(self, script: Script, real: RealItems) -> None:
        self.script = script
        self.world = World(script, real)
        self.clock = clock_of(script)
        self._plans = [self._plan(n, event) for n, event in enumerate(script.events) if event.kind != "new_users"]
        self._schedules: dict[Half, Schedule] = {}
        self._bias = 0.0
        self._bias = self._calibrated_bias()

    @property
    def name(self) -> str:
        """Name of the script."""
        return self.script.name

    @property
    def catalogue(self) -> Catalogue:
        """Real items and users drawn from the real profiles."""
        return self.world.catalogue

    @cached_property
    def drift_spans(self) -> tuple[DriftSpan, ...]:
        """What changes and when, by start."""
        everything = [span for event in self.script.events for span in spans(event, self.clock)]
        return tuple(sorted(everything, key=lambda span: span.start))

    def size(self, half: Half) -> int:
        """Number of requests of a half."""
        return self.script.requests if half == "live" else self.script.pretrain_requests

    def chunks(self, half: Half, requests: int = 4096) -> Iterator[Chunk]:
        """The requests of a half in time order."""
        return rechunk(self._blocks(half), requests)

    def pretraining(self) -> Chunk:
        """What a backbone is trained on: the first half."""
        return Chunk.concat(list(self._blocks("pretrain")))

    def schedule(self, half: Half) -> Schedule:
        """Times, users and domains of a half."""
        if half not in self._schedules:
            self._schedules[half] = make_schedule(self.world, half)
        return self._schedules[half]

    def _blocks(self, half: Half) -> Iterator[Chunk]:
        schedule = self.schedule(half)
        for number, start in enumerate(range(0, len(schedule.time), BLOCK)):
            rows = slice(start, min(start + BLOCK, len(schedule.time)))
            yield self._block((half, number), schedule.time[rows], schedule.user[rows], schedule.domain[rows])

    def _block(
        self,
        number: tuple[Half, int],
        time: NDArray[np.float64],
        user: NDArray[np.int64],
        domain: NDArray[np.int64],
    ) -> Chunk:
        position = self.clock.position(time)

        def rng(purpose: str) -> np.random.Generator:
            return stream_rng(self.script, "block", *number, purpose)

        items = self._shown(rng("shown"), position, user)
        probability = self._probability(position, user, domain, items)
        clean = rng("click").random(items.shape, dtype=np.float32) < probability
        click = self._corrupt(rng("corrupt"), clean, position, user, domain)
        delay = self._delays(rng("delay"), position, user, domain, items.shape)
        return Chunk(time, user, domain, items, click, clean, probability, delay)

    def _plan(self, number: int, event: object) -> _Plan:
        assert isinstance(event, Taste | Popularity | NewItems | NewDomain | LabelDelay | CorruptedLabels)
        name = f"{number}:{event.label}"
        users = users_of(event.who, self.world, name) if isinstance(event, Window) else np.ones(self.script.users, bool)
        items = np.zeros(len(self.catalogue.items), dtype=bool)
        if isinstance(event, Popularity | NewItems):
            genres = event.genres if isinstance(event, Popularity) else ()
            items = items_of(event.items, genres, self.world, name)
        drifts = isinstance(event, Taste | NewDomain)
        return _Plan(event, users, items, self.world.taste(name) if drifts else np.zeros((0, 0), dtype=np.float32))

    # --- what is shown ---

    def _shown(
        self, rng: np.random.Generator, position: NDArray[np.float64], user: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Items of each request, none twice in a row: half by popularity, half by the community's old taste."""
        script, communities = self.script, self.script.communities
        by_taste = rng.random((len(user), script.shown)) < script.personalised
        row = np.where(by_taste, 1 + self.world.community[user][:, None], 0)
        mass = []
        for number, part in enumerate(self._segments(position)):
            mass.append(self._mass(float(position[part].mean())))
            row[part] += number * (1 + communities)
        return _distinct(rng, np.concatenate(mass), row)

    def _segments(self, position: NDArray[np.float64]) -> list[slice]:
        """Runs of requests between which nothing changes at once."""
        marks = sorted({mark for plan in self._plans for mark in edges(plan.event)})
        cuts = [0, *(int(c) for c in np.searchsorted(position, marks)), len(position)]
        return [slice(a, b) for a, b in pairwise(cuts) if b > a]

    def _mass(self, position: float) -> NDArray[np.float64]:
        """Cumulated chances to be shown, `(1 + communities, items)`: by popularity, then by each community's taste."""
        weights = self.world.exposure.copy()
        for plan in self._plans:
            if isinstance(plan.event, NewItems):
                weights[plan.items] *= plan.event.boost if position >= plan.event.at else 0.0
            elif isinstance(plan.event, Popularity):
                weights[plan.items] *= plan.event.boost ** float(level(plan.event, np.array([position]))[0])
        rows = np.concatenate([np.ones((1, len(weights))), np.exp(0.7 * self.world.base_taste.astype(np.float64))])
        mass = np.cumsum(rows * weights, axis=1)
        return np.asarray(mass / mass[:, -1:], dtype=np.float64)

    # --- what is clicked ---

    def _probability(
        self,
        position: NDArray[np.float64],
        user: NDArray[np.int64],
        domain: NDArray[np.int64],
        items: NDArray[np.int64],
    ) -> Matrix:
        """True click probability of each shown item, `(r, k)`."""
        world, community = self.world, self.world.community[user][:, None]
        taste = world.base_taste[community, items]
        extra = np.zeros_like(taste)
        for plan in self._plans:
            weight = self._weight(plan, position, user, domain)
            rows = np.flatnonzero(weight)
            if not rows.size or isinstance(plan.event, LabelDelay | CorruptedLabels | NewItems):
                continue
            if isinstance(plan.event, Popularity):
                extra[rows] += plan.event.lift * weight[rows, None] * plan.items[items[rows]]
                continue
            other = plan.taste[community[rows], items[rows]]
            taste[rows] = (1 - weight[rows, None]) * taste[rows] + weight[rows, None] * other
        logit = self._bias + self.script.strengths.taste * taste + extra + world.static[items]
        logit += np.einsum("rd,rkd->rk", world.personal_user[user], world.personal_item[items])
        for column, table in enumerate(world.domain_taste):
            logit += table[domain[:, column][:, None], items]
        return np.asarray(1.0 / (1.0 + np.exp(-logit)), dtype=np.float32)

    def _weight(
        self, plan: _Plan, position: NDArray[np.float64], user: NDArray[np.int64], domain: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """How far an event is at work for each request, its strength included, `(r,)`."""
        event = plan.event
        if isinstance(event, NewDomain):
            index = self.world.space.values[event.facet].index(event.value)
            inside = domain[:, 0 if event.facet == "scene" else 1] == index
            return np.where(inside, np.float32(event.strength), np.float32(0))
        if isinstance(event, NewItems):
            return np.zeros(len(user), dtype=np.float32)
        weight = level(event, position) * plan.users[user] * domains_of(event.where, self.world, domain)
        return np.asarray(weight * (event.strength if isinstance(event, Taste) else 1.0), dtype=np.float32)

    def _corrupt(
        self,
        rng: np.random.Generator,
        clean: NDArray[np.bool_],
        position: NDArray[np.float64],
        user: NDArray[np.int64],
        domain: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """The labels as they are logged."""
        click = clean.copy()
        for plan in self._plans:
            if not isinstance(plan.event, CorruptedLabels):
                continue
            chance = plan.event.share * self._weight(plan, position, user, domain)
            hit = rng.random(click.shape, dtype=np.float32) < chance[:, None]
            click = {"flip": click ^ hit, "lost": click & ~hit, "fake": click | hit}[plan.event.how]
        return click

    def _delays(
        self,
        rng: np.random.Generator,
        position: NDArray[np.float64],
        user: NDArray[np.int64],
        domain: NDArray[np.int64],
        shape: tuple[int, ...],
    ) -> Matrix:
        """Seconds until the feedback of each shown item, `(r, k)`."""
        mean = np.full(len(user), self.script.delay_s, dtype=np.float32)
        for plan in self._plans:
            if isinstance(plan.event, LabelDelay):
                weight = self._weight(plan, position, user, domain)
                mean += weight * (plan.event.mean_s - mean)
        return rng.standard_exponential(shape, dtype=np.float32) * mean[:, None]

    def _calibrated_bias(self) -> float:
        """The bias that gives the base click rate before anything drifts."""
        schedule = self.schedule("pretrain")
        rows = slice(0, CALIBRATION)
        rng = stream_rng(self.script, "calibration")
        position, user, domain = self.clock.position(schedule.time[rows]), schedule.user[rows], schedule.domain[rows]
        clear = self._probability(position, user, domain, self._shown(rng, position, user)).astype(np.float64)
        logit = np.log(clear) - np.log1p(-clear)
        low, high = -20.0, 20.0
        for _ in range(50):
            middle = (low + high) / 2
            rate = float(np.mean(1.0 / (1.0 + np.exp(-(logit + middle)))))
            low, high = (middle, high) if rate < self.script.base_ctr else (low, middle)
        return (low + high) / 2


def _distinct(rng: np.random.Generator, mass: NDArray[np.float64], row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Items drawn by the cumulated chances of their row, none twice in one request, `(r, k)`."""
    steps = np.arange(len(mass))[:, None]
    flat = (mass + steps).ravel()
    width = mass.shape[1]

    def draw() -> NDArray[np.int64]:
        # Always drawn for every cell: what one request needs again never moves what another one gets.
        picked = np.searchsorted(flat, rng.random(row.shape) + row, side="right")
        return np.asarray(np.minimum(picked - row * width, width - 1), dtype=np.int64)

    items = draw()
    while True:
        order = np.argsort(items, axis=1, kind="stable")
        ranked = np.take_along_axis(items, order, axis=1)
        again = np.zeros(items.shape, dtype=bool)
        np.put_along_axis(again, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
        if not again.any():
            return items
        items = np.where(again, draw(), items)

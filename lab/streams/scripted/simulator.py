"""A scripted stream: what is clicked of what is shown, and the truth beside it. Vectorised over requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lab.streams.scripted.calibration import bias_for
from lab.streams.scripted.converting import ScriptedConversions
from lab.streams.scripted.drift_events import CorruptedLabels, LabelDelay, NewItems, Popularity
from lab.streams.scripted.effects import spans
from lab.streams.scripted.plans import make_plans, weight_of
from lab.streams.scripted.script import Script
from lab.streams.scripted.searching import ScriptedQueries
from lab.streams.scripted.sessions import Schedule, clock_of, make_schedule
from lab.streams.scripted.shown import SearchRequests, shown_items
from lab.streams.scripted.world import Matrix, RealItems, World, stream_rng
from lab.streams.stream import Catalogue, Chunk, DriftSpan, Half, rechunk

BLOCK = 2_048  # requests simulated at once; part of the seed, so it never changes with the chunk size
CALIBRATION = 2_000


class ScriptedStream:
    """Requests of a script over real items; equal for equal scripts, whatever the chunk size."""

    def __init__(self, script: Script, real: RealItems) -> None:
        self.script = script
        self.world = World(script, real)
        self.clock = clock_of(script)
        self._plans = make_plans(self.world)
        self._queries = None if script.queries is None else ScriptedQueries(script.queries, self.world)
        self._schedules: dict[Half, Schedule] = {}
        self._bias = 0.0
        self._bias = self._calibrated_bias()
        self._converting = self._make_converting()

    @property
    def name(self) -> str:
        """Name of the script."""
        return self.script.name

    @cached_property
    def catalogue(self) -> Catalogue:
        """Real items and users drawn from the real profiles, and what users may ask for."""
        queries = () if self._queries is None else self._queries.texts
        return replace(self.world.catalogue, queries=queries)

    @cached_property
    def drift_spans(self) -> tuple[DriftSpan, ...]:
        """The changes of the stream with their times, by start."""
        everything = [span for event in self.script.events for span in spans(event, self.clock)]
        return tuple(sorted(everything, key=lambda span: span.start))

    def size(self, half: Half) -> int:
        """Number of requests of a half."""
        return self.script.requests if half == "live" else self.script.pretrain_requests

    def chunks(self, half: Half, requests: int = 4096) -> Iterator[Chunk]:
        """The requests of a half in time order."""
        return rechunk(self._blocks(half), requests)

    def pretraining(self) -> Chunk:
        """The training data of a backbone: the first half."""
        return Chunk.concat(list(self._blocks("pretrain")))

    @property
    def converts(self) -> bool:
        """Whether the script has conversions."""
        return self.script.conversions is not None

    @property
    def searches(self) -> bool:
        """Whether the script has queries."""
        return self._queries is not None

    @property
    def judges(self) -> bool:
        """Whether the script has items judged for their queries."""
        return self._queries is not None and self._queries.judges

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

        searched = self._searched(rng("query"), user, domain)
        items = shown_items(rng("shown"), self.world, self._plans, position, user, searched=searched)
        probability = self._probability(position, user, domain, items, searched)
        clean = rng("click").random(items.shape, dtype=np.float32) < probability
        click = self._corrupt(rng("corrupt"), clean, position, user, domain)
        delay = self._delays(rng("delay"), position, user, domain, items.shape)
        conversions = None if self._converting is None else self._converting.follow(rng, user, items, clean)
        query = None if searched is None else searched.query
        judged = None if searched is None else searched.queries.judge(rng("relevance"), searched.query, items)
        return Chunk(time, user, domain, items, click, clean, probability, delay, conversions, query, judged)

    def _searched(
        self, rng: np.random.Generator, user: NDArray[np.int64], domain: NDArray[np.int64]
    ) -> SearchRequests | None:
        return None if self._queries is None else SearchRequests(self._queries, self._queries.draw(rng, user, domain))

    def _probability(
        self,
        position: NDArray[np.float64],
        user: NDArray[np.int64],
        domain: NDArray[np.int64],
        items: NDArray[np.int64],
        searched: SearchRequests | None,
    ) -> Matrix:
        """True click probability of each shown item, `(r, k)`."""
        world, community = self.world, self.world.community[user][:, None]
        taste = world.base_taste[community, items]
        extra = np.zeros_like(taste)
        for plan in self._plans:
            weight = weight_of(plan, self.world, position, user, domain)
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
        if searched is not None:
            logit += searched.queries.logit(searched.query, items)
        return np.asarray(1.0 / (1.0 + np.exp(-logit)), dtype=np.float32)

    def _corrupt(
        self,
        rng: np.random.Generator,
        clean: NDArray[np.bool_],
        position: NDArray[np.float64],
        user: NDArray[np.int64],
        domain: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """The labels that are logged, which a script may corrupt."""
        click = clean.copy()
        for plan in self._plans:
            if not isinstance(plan.event, CorruptedLabels):
                continue
            chance = plan.event.share * weight_of(plan, self.world, position, user, domain)
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
                weight = weight_of(plan, self.world, position, user, domain)
                mean += weight * (plan.event.mean_s - mean)
        return rng.standard_exponential(shape, dtype=np.float32) * mean[:, None]

    def _make_converting(self) -> ScriptedConversions | None:
        if self.script.conversions is None:
            return None
        converting = ScriptedConversions(self.script.conversions, self.world)
        before = self._before_drift()
        converting.calibrate(before[1], before[3], self._probability(*before))
        return converting

    def _before_drift(
        self,
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], SearchRequests | None]:
        """Positions, users, domains, items and queries of some requests of the first half."""
        schedule = self.schedule("pretrain")
        rows = slice(0, CALIBRATION)
        rng = stream_rng(self.script, "calibration")
        position, user, domain = self.clock.position(schedule.time[rows]), schedule.user[rows], schedule.domain[rows]
        searched = self._searched(stream_rng(self.script, "calibration", "query"), user, domain)
        shown = shown_items(rng, self.world, self._plans, position, user, searched=searched)
        return position, user, domain, shown, searched

    def _calibrated_bias(self) -> float:
        """The bias that gives the base click rate before anything drifts."""
        clear = self._probability(*self._before_drift()).astype(np.float64)
        logit = np.log(clear) - np.log1p(-clear)
        return bias_for(logit, self.script.base_ctr)

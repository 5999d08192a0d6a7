"""Items that a scripted stream shows: half by popularity, half by the community's old taste, some by a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lab.streams.scripted.drift_events import NewItems, Popularity
from lab.streams.scripted.effects import edges, level
from lab.streams.scripted.plans import EventPlan
from lab.streams.scripted.searching import ScriptedQueries
from lab.streams.scripted.world import World


@dataclass(frozen=True)
class SearchRequests:
    """Queries of the requests."""

    queries: ScriptedQueries
    query: NDArray[np.int64]
    """`(r,)`, `NO_QUERY` for a recommendation."""


def shown_items(
    rng: np.random.Generator,
    world: World,
    plans: Sequence[EventPlan],
    position: NDArray[np.float64],
    user: NDArray[np.int64],
    *,
    searched: SearchRequests | None = None,
) -> NDArray[np.int64]:
    """Items of each request, none twice in a row, `(r, k)`."""
    script = world.script
    by_taste = rng.random((len(user), script.shown)) < script.personalised
    row = np.where(by_taste, 1 + world.community[user][:, None], 0)
    if searched is not None:
        for_query = searched.queries.retrieved(rng, searched.query, script.shown)
        row = np.where(for_query, 1 + script.communities + searched.queries.asked(searched.query)[:, None], row)
    mass: list[NDArray[np.float64]] = []
    for part in _segments(plans, position):
        row[part] += sum(map(len, mass))
        weights = _weights(world, plans, float(position[part].mean()))
        mass.append(_mass(world, weights, None if searched is None else searched.queries))
    return _distinct(rng, np.concatenate(mass), row)


def _segments(plans: Sequence[EventPlan], position: NDArray[np.float64]) -> list[slice]:
    """Runs of requests between which nothing changes at once."""
    marks = sorted({mark for plan in plans for mark in edges(plan.event)})
    cuts = [0, *(int(c) for c in np.searchsorted(position, marks)), len(position)]
    return [slice(a, b) for a, b in pairwise(cuts) if b > a]


def _weights(world: World, plans: Sequence[EventPlan], position: float) -> NDArray[np.float64]:
    """Relative frequency with which each item is shown at a position of the script, `(items,)`."""
    weights = world.exposure.copy()
    for plan in plans:
        if isinstance(plan.event, NewItems):
            weights[plan.items] *= plan.event.boost if position >= plan.event.at else 0.0
        elif isinstance(plan.event, Popularity):
            weights[plan.items] *= plan.event.boost ** float(level(plan.event, np.array([position]))[0])
    return weights


def _mass(world: World, weights: NDArray[np.float64], queries: ScriptedQueries | None) -> NDArray[np.float64]:
    """Cumulated chances to be shown, `(rows, items)`: by popularity, by each community's taste, for each query."""
    rows = [np.ones((1, len(weights))) * weights, np.exp(0.7 * world.base_taste.astype(np.float64)) * weights]
    mass = np.cumsum(np.concatenate(rows if queries is None else [*rows, queries.mass(weights)]), axis=1)
    return np.asarray(mass / mass[:, -1:], dtype=np.float64)


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

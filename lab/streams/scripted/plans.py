"""A script's events made ready: whom and what each concerns, and how far it is at work for a request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.streams.scripted.drift_events import (
    CorruptedLabels,
    LabelDelay,
    NewDomain,
    NewItems,
    NewUsers,
    Popularity,
    ScriptEvent,
    Taste,
    Window,
)
from lab.streams.scripted.effects import domains_of, items_of, level, users_of
from lab.streams.scripted.world import Matrix, World


@dataclass(frozen=True)
class EventPlan:
    """An event with everything about it that does not depend on the request."""

    event: Taste | Popularity | NewItems | NewDomain | LabelDelay | CorruptedLabels
    users: NDArray[np.bool_]
    """Mask of the users that it concerns, `(users,)`."""
    items: NDArray[np.bool_]
    """Mask of the items that it shows more, or holds back, `(items,)`."""
    taste: Matrix
    """The new taste, `(communities, items)`; empty for an event without one."""


def make_plans(world: World) -> list[EventPlan]:
    """All events of the world's script but `new_users`, which the schedule plays. Raises StreamError."""
    return [plan for n, event in enumerate(world.script.events) if (plan := _make_plan(world, n, event)) is not None]


def _make_plan(world: World, number: int, event: ScriptEvent) -> EventPlan | None:
    if isinstance(event, NewUsers):
        return None
    name = f"{number}:{event.label}"
    users = users_of(event.who, world, name) if isinstance(event, Window) else np.ones(world.script.users, bool)
    items = np.zeros(len(world.catalogue.items), dtype=bool)
    if isinstance(event, Popularity | NewItems):
        genres = event.genres if isinstance(event, Popularity) else ()
        items = items_of(event.items, genres, world, name)
    drifts = isinstance(event, Taste | NewDomain)
    return EventPlan(event, users, items, world.taste(name) if drifts else np.zeros((0, 0), dtype=np.float32))


def weight_of(
    plan: EventPlan, world: World, position: NDArray[np.float64], user: NDArray[np.int64], domain: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Effect of an event on each request, strength included, `(r,)`."""
    event = plan.event
    if isinstance(event, NewDomain):
        index = world.space.values[event.facet].index(event.value)
        inside = domain[:, 0 if event.facet == "scene" else 1] == index
        return np.where(inside, np.float32(event.strength), np.float32(0))
    if isinstance(event, NewItems):
        return np.zeros(len(user), dtype=np.float32)
    weight = level(event, position) * plan.users[user] * domains_of(event.where, world, domain)
    return np.asarray(weight * (event.strength if isinstance(event, Taste) else 1.0), dtype=np.float32)

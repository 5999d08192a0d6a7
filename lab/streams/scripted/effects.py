"""When an event is at work, and for whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.streams.scripted.drift_events import DomainFilter, Event, NewUsers, UserFilter, Window
from lab.streams.scripted.script import Script
from lab.streams.scripted.world import World, stream_rng
from lab.streams.stream import DriftSpan, StreamError
from model.encoding.domain import FACETS
from model.encoding.spelling import FieldValue, spell, spell_list

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Clock:
    """RequestScheduler positions of the script (0 to 1 over the live half) into event times and back."""

    start: float
    seconds: float

    def time(self, position: float) -> float:
        """Event time of a position."""
        return self.start + position * self.seconds

    def position(self, time: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions of event times; negative in the pretraining half."""
        return (time - self.start) / self.seconds


def level(event: Window, position: NDArray[np.float64]) -> NDArray[np.float32]:
    """Strength of an event at each position, 0 to 1."""
    inside = (position >= event.at) & ((position < event.until) | (event.until >= 1.0))
    if event.shape == "gradual":
        grown = np.clip((position - event.at) / event.ramp, 0.0, 1.0)
        return np.asarray(np.where(inside, grown, 0.0), dtype=np.float32)
    if event.shape == "recurring":
        phase = np.mod((position - event.at) / event.cycle, 1.0)
        inside &= phase < event.duty
    return inside.astype(np.float32)


def edges(event: Event) -> tuple[float, ...]:
    """Positions at which the event begins or ends something at once."""
    if not isinstance(event, Window):
        return (event.at,)
    if event.shape != "recurring":
        return (event.at, event.until)
    cycles = np.arange(event.at, event.until, event.cycle)
    ends = np.minimum(cycles + event.duty * event.cycle, event.until)
    return tuple(float(p) for p in np.stack([cycles, ends]).T.ravel())


def spans(event: Event, clock: Clock) -> list[DriftSpan]:
    """The stretches of event time in which the event is at work: one, or one per cycle."""
    if isinstance(event, Window) and event.shape == "recurring":
        marks = edges(event)
        pairs = list(zip(marks[::2], marks[1::2], strict=True))
    else:
        pairs = [(event.at, event.until if isinstance(event, Window) else 1.0)]
    ramp = event.ramp if isinstance(event, Window) and event.shape == "gradual" else 0.0
    return [
        DriftSpan(
            name=event.label,
            kind=str(getattr(event, "kind", "")),
            start=clock.time(begin),
            end=clock.time(end),
            full=clock.time(min(begin + ramp, end)),
            domain=event.where.facets() if isinstance(event, Window) else {},
            returns=end < 1.0,
        )
        for begin, end in pairs
    ]


def users_of(who: UserFilter, world: World, name: str) -> Mask:
    """Mask of the users that an event concerns, `(users,)`. Raises StreamError for an unknown field or community."""
    script = world.script
    chosen = np.ones(script.users, dtype=bool)
    if who.share is not None:
        chosen &= stream_rng(script, "who", name).random(script.users) < who.share
    if who.communities is not None:
        wrong = [c for c in who.communities if not 0 <= c < script.communities]
        if wrong:
            raise StreamError(
                f"script {script.name}: event {name!r}: no community {wrong[0]}; "
                f"there are 0 to {script.communities - 1}"
            )
        chosen &= np.isin(world.community, who.communities)
    known = {spec.name for spec in world.catalogue.user_fields}
    for field, values in who.fields.items():
        if field not in known:
            raise StreamError(
                f"script {script.name}: event {name!r}: users have no field {field!r}; "
                f"there are {', '.join(sorted(known))}"
            )
        chosen &= np.array([spell(user.fields.get(field)) in values for user in world.catalogue.users])
    if who.fields and not chosen.any():
        wanted = "; ".join(f"{field}: {', '.join(values)}" for field, values in who.fields.items())
        raise StreamError(f"script {script.name}: event {name!r} concerns no user: nobody has {wanted}")
    return chosen


def domains_of(where: DomainFilter, world: World, domain: NDArray[np.int64]) -> Mask:
    """Mask of the requests in an event's domains, `(r,)`."""
    chosen = np.ones(len(domain), dtype=bool)
    for column, facet in enumerate(FACETS):
        wanted = where.facets().get(facet)
        if wanted:
            values = world.space.values[facet]
            chosen &= np.isin(domain[:, column], [values.index(value) for value in wanted])
    return chosen


def items_of(share: float, genres: tuple[str, ...], world: World, name: str) -> Mask:
    """A seeded share of the items (of the genres, if given), `(items,)`. Raises StreamError if that is none."""
    items = world.catalogue.items
    chosen = np.ones(len(items), dtype=bool)
    if genres:
        chosen = np.array([_has_genre(item.fields.get("genres"), genres) for item in items])
    chosen &= stream_rng(world.script, "items", name).random(len(items)) < share
    if share > 0 and not chosen.any():
        raise StreamError(
            f"script {world.script.name}: event {name!r} picks no item; raise `items` or name other `genres`"
        )
    return chosen


def _has_genre(value: FieldValue, genres: tuple[str, ...]) -> bool:
    return not set(genres).isdisjoint(spell_list(value))


def late_users(world: World) -> list[tuple[NewUsers, Mask]]:
    """The users each `new_users` event holds back, disjoint."""
    free = np.ones(world.script.users, dtype=bool)
    out: list[tuple[NewUsers, Mask]] = []
    for number, event in enumerate(_of(world.script, NewUsers)):
        held = free & (stream_rng(world.script, "late", number).random(world.script.users) < event.users)
        free &= ~held
        out.append((event, held))
    if not free.any():
        raise StreamError(f"script {world.script.name}: new_users holds every user back; lower `users`")
    return out


def _of(script: Script, kind: type[NewUsers]) -> list[NewUsers]:
    return [event for event in script.events if isinstance(event, kind)]

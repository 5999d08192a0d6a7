"""The events of a drift script: what changes, when, for whom and where. Documented in docs/streams.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lab.streams.sections import Category
from model.config import Section
from model.encoding.domain import FACETS

Share = Annotated[float, Field(ge=0, le=1)]


class UserFilter(Section):
    """The users that an event concerns. All given keys must match."""

    share: Share | None = Field(default=None, description="A seeded random share of the users.")
    communities: tuple[int, ...] | None = Field(default=None, description="Numbers of user communities, from 0.")
    fields: dict[str, tuple[Category, ...]] = Field(
        default={}, description="Sparse fields and their allowed values, e.g. `gender: [F]`."
    )


class DomainFilter(Section):
    """The domains that an event concerns; an omitted facet matches all its values."""

    scene: tuple[Category, ...] = Field(default=(), description="Scenes.")
    region: tuple[Category, ...] = Field(default=(), description="Regions.")
    period: tuple[Category, ...] = Field(default=(), description="Periods of the day.")

    def facets(self) -> dict[str, tuple[str, ...]]:
        """The facets that are restricted."""
        return {facet: getattr(self, facet) for facet in FACETS if getattr(self, facet)}


class Event(Section):
    """What all events share. Positions are shares of the live half's time: 0 its begin, 1 its end."""

    name: str = Field(default="", description="Name in reports; left out, the kind.")
    at: Share = Field(description="Where it begins.")

    @property
    def label(self) -> str:
        """Name in reports."""
        return self.name or str(getattr(self, "kind", "event"))


class Window(Event):
    """An event with an end and a shape."""

    until: Share = Field(default=1.0, description="Where it ends and the old regime returns; 1 means it stays.")
    shape: Literal["abrupt", "gradual", "recurring"] = Field(
        default="abrupt", description="At once; growing linearly over `ramp`; or on and off with `cycle`."
    )
    ramp: float = Field(default=0.2, gt=0, le=1, description="Length of a gradual event's growth.")
    cycle: float = Field(default=0.25, ge=1e-3, le=1, description="Length of one on-off cycle of a recurring event.")
    duty: float = Field(default=0.5, gt=0, lt=1, description="Share of a cycle in which a recurring event is on.")
    where: DomainFilter = Field(default=DomainFilter(), description="Domains it concerns.")
    who: UserFilter = Field(default=UserFilter(), description="Users it concerns.")

    @model_validator(mode="after")
    def _ordered(self) -> Window:
        if self.until <= self.at:
            raise ValueError(f"until ({self.until}) must be later than at ({self.at})")
        return self


class Taste(Window):
    """The users' taste changes."""

    kind: Literal["taste"]
    strength: float = Field(
        default=1.0, gt=0, le=1, description="1 replaces the old taste wholly, 0.5 mixes half and half."
    )


class Popularity(Window):
    """Some items are shown and clicked more (or less)."""

    kind: Literal["popularity"]
    items: Share = Field(default=0.05, description="Seeded random share of the items (of `genres`, if given).")
    genres: tuple[Category, ...] = Field(default=(), description="Only items of these genres.")
    boost: float = Field(default=5.0, gt=0, le=1e6, description="Factor on how often they are shown.")
    lift: float = Field(default=1.0, ge=-100, le=100, description="Added to their click logit.")


class NewItems(Event):
    """Items that nobody saw before appear."""

    kind: Literal["new_items"]
    items: Share = Field(default=0.2, description="Seeded random share of the items that are held back.")
    boost: float = Field(
        default=3.0, gt=0, le=1e6, description="Factor on how often they are shown once they are there."
    )


class NewUsers(Event):
    """Users that nobody saw before arrive."""

    kind: Literal["new_users"]
    users: Share = Field(default=0.3, description="Seeded random share of the users that are held back.")
    traffic: Share = Field(default=0.5, description="Share of the requests they make once they are there.")


class NewDomain(Event):
    """A facet value without any history begins to make requests, with a taste of its own."""

    kind: Literal["new_domain"]
    facet: Literal["scene", "region"] = Field(default="scene", description="Facet of the new value.")
    value: Category = Field(min_length=1, description="The new value; not among those of `domains`.")
    traffic: Share = Field(default=0.3, description="Share of the requests made there.")
    strength: float = Field(default=0.7, gt=0, le=1, description="How far its taste is from the old one.")


class LabelDelay(Window):
    """Feedback takes longer (or less long)."""

    kind: Literal["label_delay"]
    mean_s: float = Field(ge=0, le=1e9, description="New mean delay, seconds.")


class CorruptedLabels(Window):
    """Logged labels are wrong, the users are as ever."""

    kind: Literal["corrupted_labels"]
    share: Share = Field(default=0.3, description="Share of the impressions concerned that are hit.")
    how: Literal["flip", "lost", "fake"] = Field(
        default="flip", description="Label turned over; clicks lost; or clicks that nobody made."
    )


ScriptEvent = Annotated[
    Taste | Popularity | NewItems | NewUsers | NewDomain | LabelDelay | CorruptedLabels, Field(discriminator="kind")
]

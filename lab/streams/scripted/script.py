"""The keys of a drift script (YAML): what changes, when and for whom. Documented in docs/streams.md."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from lab.streams.stream import StreamError
from model.config import Section
from model.encoding.domain import FACETS

PERIODS = ("night", "morning", "afternoon", "evening")
Share = Annotated[float, Field(ge=0, le=1)]
S = TypeVar("S", bound=Section)


class Who(Section):
    """Which users an event concerns. All given keys must hold."""

    share: Share | None = Field(default=None, description="A seeded random share of the users.")
    communities: tuple[int, ...] | None = Field(default=None, description="Numbers of user communities, from 0.")
    fields: dict[str, tuple[str, ...]] = Field(
        default={}, description="Sparse fields and their allowed values, e.g. `gender: [F]`."
    )


class Where(Section):
    """Which domains an event concerns; a facet left out means all its values."""

    scene: tuple[str, ...] = Field(default=(), description="Scenes.")
    region: tuple[str, ...] = Field(default=(), description="Regions.")
    period: tuple[str, ...] = Field(default=(), description="Periods of the day.")

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
    cycle: float = Field(default=0.25, gt=0, le=1, description="Length of one on-off cycle of a recurring event.")
    duty: float = Field(default=0.5, gt=0, lt=1, description="Share of a cycle in which a recurring event is on.")
    where: Where = Field(default=Where(), description="Domains it concerns.")
    who: Who = Field(default=Who(), description="Users it concerns.")

    @model_validator(mode="after")
    def _ordered(self) -> Window:
        if self.until <= self.at:
            raise ValueError(f"until ({self.until}) must be later than at ({self.at})")
        return self


class Taste(Window):
    """What users like turns into something else."""

    kind: Literal["taste"]
    strength: float = Field(
        default=1.0, gt=0, le=1, description="1 replaces the old taste wholly, 0.5 mixes half and half."
    )


class Popularity(Window):
    """Some items are shown and clicked more (or less)."""

    kind: Literal["popularity"]
    items: Share = Field(default=0.05, description="Seeded random share of the items (of `genres`, if given).")
    genres: tuple[str, ...] = Field(default=(), description="Only items of these genres.")
    boost: float = Field(default=5.0, gt=0, description="Factor on how often they are shown.")
    lift: float = Field(default=1.0, description="Added to their click logit.")


class NewItems(Event):
    """Items that nobody saw before appear."""

    kind: Literal["new_items"]
    items: Share = Field(default=0.2, description="Seeded random share of the items that are held back.")
    boost: float = Field(default=3.0, gt=0, description="Factor on how often they are shown once they are there.")


class NewUsers(Event):
    """Users that nobody saw before arrive."""

    kind: Literal["new_users"]
    users: Share = Field(default=0.3, description="Seeded random share of the users that are held back.")
    traffic: Share = Field(default=0.5, description="Share of the requests they make once they are there.")


class NewDomain(Event):
    """A facet value without any history begins to make requests, with a taste of its own."""

    kind: Literal["new_domain"]
    facet: Literal["scene", "region"] = Field(default="scene", description="Facet of the new value.")
    value: str = Field(min_length=1, description="The new value; not among those of `domains`.")
    traffic: Share = Field(default=0.3, description="Share of the requests made there.")
    strength: float = Field(default=0.7, gt=0, le=1, description="How far its taste is from the old one.")


class LabelDelay(Window):
    """Feedback takes longer (or less long)."""

    kind: Literal["label_delay"]
    mean_s: float = Field(ge=0, description="New mean delay, seconds.")


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


class Strengths(Section):
    """Standard deviations of the parts of the click logit."""

    taste: float = Field(default=1.2, ge=0, description="Taste of the user's community for the item's content.")
    personal: float = Field(default=0.4, ge=0, description="The user's own taste.")
    popularity: float = Field(default=0.4, ge=0, description="The item's popularity (log of its real rating count).")
    quality: float = Field(default=0.3, ge=0, description="Quality of the item that its content does not tell.")
    domain: float = Field(default=0.4, ge=0, description="Taste of scene, region and period, each.")
    hidden: Share = Field(default=0.25, description="Share of the content's variance that no feature tells.")


class Script(Section):
    """A whole scripted stream."""

    name: str = Field(pattern="^[a-z0-9-]+$", description="Short name for tables and files.")
    about: str = Field(default="", description="One sentence on what it shows.")
    seed: int = Field(default=0, ge=0, description="Seed; `driftline evaluate --seeds` adds to it.")
    requests: int = Field(default=1_500, ge=10, description="Requests of the live half.")
    pretrain_requests: int = Field(default=8_000, ge=10, description="Requests before it; nothing drifts in them.")
    days: float = Field(default=4.0, gt=0, description="Days the live half spans.")
    shown: int = Field(default=10, ge=1, le=100, description="Items shown per request.")
    users: int = Field(default=500, ge=1, description="Users, drawn from the real profiles.")
    communities: int = Field(default=8, ge=1, description="User communities, each with its own taste.")
    session: float = Field(default=3.0, ge=1, description="Mean number of requests a user makes in a row.")
    think_s: float = Field(default=30.0, gt=0, description="Mean seconds between two requests of a row.")
    base_ctr: float = Field(default=0.25, gt=0.005, lt=0.995, description="Click rate before anything drifts.")
    personalised: Share = Field(default=0.5, description="Share of shown items picked by the community's old taste.")
    delay_s: float = Field(default=5.0, ge=0, description="Mean delay of feedback, seconds (exponential).")
    domains: dict[Literal["scene", "region"], dict[str, float]] = Field(
        default={"scene": {"home": 1.0}, "region": {"north": 0.5, "south": 0.3, "east": 0.2}},
        description="Scenes and regions with their share of traffic; periods of the day come by themselves.",
    )
    strengths: Strengths = Field(default=Strengths(), description="What the click logit is made of.")
    events: tuple[ScriptEvent, ...] = Field(default=(), description="What changes; none at all is a script too.")

    @field_validator("domains")
    @classmethod
    def _positive(cls, domains: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for facet, shares in domains.items():
            if not shares or min(shares.values()) <= 0:
                raise ValueError(f"every {facet} needs a share above 0")
        return domains

    @model_validator(mode="after")
    def _names(self) -> Script:
        known = {**{f: tuple(self.domains.get(f, {})) for f in ("scene", "region")}, "period": PERIODS}
        for event in self.events:
            if isinstance(event, NewDomain):
                if event.value in known[event.facet]:
                    raise ValueError(f"new_domain: {event.value!r} is among the {event.facet}s already")
                known[event.facet] = (*known[event.facet], event.value)
        for event in self.events:
            for facet, values in (event.where.facets() if isinstance(event, Window) else {}).items():
                for value in values:
                    if value not in known[facet]:
                        raise ValueError(
                            f"event {event.label!r}: no {facet} {value!r}; there are {', '.join(known[facet])}"
                        )
        return self


def find_script(named: str) -> Script:
    """The script that a user names: one that comes with the package, or a file.

    Raises StreamError; for a word that is neither, it lists the ones that come with the package.
    """
    shipped = standard_suite()
    if named in shipped:
        return shipped[named]
    path = Path(named)
    if path.exists() or path.suffix or path.name != named:
        return load_script(path)
    near = difflib.get_close_matches(named, shipped, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise StreamError(
        f"no script {named!r}: there is no such file, and the ones that come along are {', '.join(shipped)}{hint}"
    )


def load_script(path: Path) -> Script:
    """The script of a YAML file. Raises StreamError, which names the file, the key and the cure."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise StreamError(f"script {path}: {error.strerror or error}") from error
    return parse_script(text, str(path))


def parse_script(text: str, source: str) -> Script:
    """The script of a YAML text; `source` is how errors name it."""
    return parse_section(Script, text, f"script {source}")


def parse_section(kind: type[S], text: str, source: str) -> S:
    """A validated section from YAML. Raises StreamError naming `source`, the key and the cure."""
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StreamError(f"{source}: not YAML: {error}") from error
    if not isinstance(values, dict):
        raise StreamError(f"{source}: expected keys and values, found {type(values).__name__}")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise StreamError(f"{source}: " + "; ".join(_explain(kind, fault) for fault in error.errors())) from error


def _explain(kind: type[Section], fault: Any) -> str:
    """One fault in words; for an unknown key the nearest known one."""
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] != "extra_forbidden":
        return f"{where or 'whole file'}: {fault['msg']}"
    key = str(fault["loc"][-1])
    near = difflib.get_close_matches(key, sorted(set(_keys(kind))), n=1)
    return f"unknown key {key!r} at {where}" + (f"; did you mean {near[0]!r}?" if near else "; see docs/streams.md")


def _keys(kind: type[Section]) -> Iterator[str]:
    """All keys of the sections that are declared beside `kind`."""
    todo = [Section]
    while todo:
        section = todo.pop()
        todo.extend(section.__subclasses__())
        if section.__module__ == kind.__module__:
            yield from section.model_fields


def standard_suite() -> dict[str, Script]:
    """The scripts that come with the package, by name."""
    folder = resources.files("lab.streams.scripted") / "scripts"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    scripts = [parse_script(f.read_text(encoding="utf-8"), f.name) for f in files]
    return {script.name: script for script in scripts}

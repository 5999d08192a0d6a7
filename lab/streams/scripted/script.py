"""Drift scripts (YAML), which define a whole scripted stream, and the shipped ones. docs/streams.md documents them."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from lab.streams.files import read_text
from lab.streams.scripted.drift_events import NewDomain, ScriptEvent, Share, Window
from lab.streams.sections import Category, parse_section
from lab.streams.stream import StreamError
from model.config import MAX_SEED, Section
from model.encoding.domain import UNKNOWN
from model.near_names import did_you_mean

_MAX_SHARE = 1e6
PERIODS = ("night", "morning", "afternoon", "evening")


class Strengths(Section):
    """Standard deviations of the parts of the click logit."""

    taste: float = Field(default=1.2, ge=0, le=100, description="Taste of the user's community for the item's content.")
    personal: float = Field(default=0.4, ge=0, le=100, description="The user's own taste.")
    popularity: float = Field(
        default=0.4, ge=0, le=100, description="The item's popularity (log of its real rating count)."
    )
    quality: float = Field(default=0.3, ge=0, le=100, description="Quality of the item that its content does not tell.")
    domain: float = Field(default=0.4, ge=0, le=100, description="Taste of scene, region and period, each.")
    hidden: Share = Field(default=0.25, description="Share of the content's variance that no feature tells.")


class ConversionModel(Section):
    """Settings of conversions in a script."""

    rate: float = Field(default=0.15, gt=0.001, lt=0.999, description="Share of clicks that convert before any drift.")
    delay_s: float = Field(
        default=600.0, ge=0, le=1e9, description="Mean seconds from the click to the conversion (exponential)."
    )
    taste: float = Field(
        default=1.0, ge=0, le=100, description="Deviation of what the user's community converts on, in the logit."
    )
    worth: float = Field(default=0.5, ge=0, le=100, description="Deviation of what an item converts by itself.")


class QueryModel(Section):
    """Settings of queries in a script."""

    scenes: tuple[Category, ...] = Field(default=(), description="Scenes whose requests carry a query; empty for all.")
    share: Share = Field(default=1.0, description="Share of the requests of these scenes that carry one.")
    match: float = Field(
        default=2.0, ge=0, le=100, description="Added to the click logit of an item that has all that was asked for."
    )
    retrieved: Share = Field(
        default=0.5, description="Share of the items shown for a query that are drawn among those that fit it."
    )
    judged: Share = Field(
        default=0.0,
        description="Share of the items shown for a query that somebody judges: relevance is the share of what was "
        "asked for that the item has; 0 for a stream without judgements.",
    )
    misjudged: Share = Field(default=0.1, description="Share of these judgements that say the opposite.")


class Script(Section):
    """A whole scripted stream."""

    name: str = Field(pattern="^[a-z0-9-]+$", description="Short name for tables and files.")
    about: str = Field(default="", description="One sentence on what it shows.")
    seed: int = Field(default=0, ge=0, le=MAX_SEED, description="Seed; `driftline evaluate --seeds` adds to it.")
    requests: int = Field(default=1_500, ge=10, description="Requests of the live half.")
    pretrain_requests: int = Field(default=8_000, ge=10, description="Requests before it; nothing drifts in them.")
    days: float = Field(default=4.0, ge=1e-3, le=36_500, description="Days the live half spans.")
    shown: int = Field(default=10, ge=1, le=100, description="Items shown per request.")
    users: int = Field(default=500, ge=1, le=1_000_000, description="Users, drawn from the real profiles.")
    communities: int = Field(default=8, ge=1, le=10_000, description="User communities, each with its own taste.")
    session: float = Field(default=3.0, ge=1, le=1e6, description="Mean number of requests a user makes in a row.")
    think_s: float = Field(default=30.0, gt=0, le=1e6, description="Mean seconds between two requests of a row.")
    base_ctr: float = Field(default=0.25, gt=0.005, lt=0.995, description="Click rate before anything drifts.")
    personalised: Share = Field(default=0.5, description="Share of shown items picked by the community's old taste.")
    delay_s: float = Field(default=5.0, ge=0, le=1e9, description="Mean delay of feedback, seconds (exponential).")
    domains: dict[Literal["scene", "region"], dict[Category, float]] = Field(
        default={"scene": {"home": 1.0}, "region": {"north": 0.5, "south": 0.3, "east": 0.2}},
        description="Scenes and regions with their share of traffic; periods of the day come by themselves.",
    )
    strengths: Strengths = Field(default=Strengths(), description="What the click logit is made of.")
    conversions: ConversionModel | None = Field(
        default=None, description="How clicks convert; left out, the stream knows of no conversions."
    )
    queries: QueryModel | None = Field(
        default=None, description="What users ask for; left out, all requests are for recommendations."
    )
    events: tuple[ScriptEvent, ...] = Field(default=(), description="What changes; none at all is a script too.")

    @field_validator("domains")
    @classmethod
    def _positive(cls, domains: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for facet, shares in domains.items():
            if not shares or min(shares.values()) <= 0 or max(shares.values()) > _MAX_SHARE:
                raise ValueError(f"every {facet} needs a share above 0 and up to {_MAX_SHARE:g}")
            if UNKNOWN in shares or not all(value.strip() for value in shares):
                raise ValueError(f"a {facet} may neither be empty nor be called {UNKNOWN!r}")
        return domains

    @model_validator(mode="after")
    def _names(self) -> Script:
        known = {**{f: tuple(self.domains.get(f, {})) for f in ("scene", "region")}, "period": PERIODS}
        for event in self.events:
            if isinstance(event, NewDomain):
                if event.value == UNKNOWN or not event.value.strip():
                    raise ValueError(f"new_domain: {event.value!r} is no name of a {event.facet}")
                if event.value in known[event.facet]:
                    raise ValueError(f"new_domain: {event.value!r} is among the {event.facet}s already")
                known[event.facet] = (*known[event.facet], event.value)
        for scene in self.queries.scenes if self.queries is not None else ():
            if scene not in known["scene"]:
                raise ValueError(f"queries: no scene {scene!r}; there are {', '.join(known['scene'])}")
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
    shipped = standard_suite() | unmatched_suite() | conversion_suite() | search_suite()
    if named in shipped:
        return shipped[named]
    path = Path(named)
    if path.exists() or path.suffix or path.name != named:
        return load_script(path)
    raise StreamError(
        f"no script {named!r}: there is no such file, and the ones that come along are {', '.join(shipped)}"
        f"{did_you_mean(named, shipped)}"
    )


def load_script(path: Path) -> Script:
    """The script of a YAML file. Raises StreamError, which names the file, the key and the cure."""
    return parse_script(read_text(path, "script"), str(path))


def parse_script(text: str, source: str) -> Script:
    """The script of a YAML text; `source` is how errors name it."""
    return parse_section(Script, text, f"script {source}")


def standard_suite() -> dict[str, Script]:
    """The scripts of the standard suite, by name."""
    return _shipped("scripts")


def unmatched_suite() -> dict[str, Script]:
    """Scripts whose drift is not a group's taste for item fields, the form that the kernel matches best; by name."""
    return _shipped("unmatched")


def conversion_suite() -> dict[str, Script]:
    """Scripts whose clicks convert; by name."""
    return _shipped("converting_scripts")


def search_suite() -> dict[str, Script]:
    """Scripts whose users say what they look for; by name."""
    return _shipped("searching_scripts")


def _shipped(folder_name: str) -> dict[str, Script]:
    return {script.name: script for script in _scripts_in(folder_name)}


@cache
def _scripts_in(folder_name: str) -> tuple[Script, ...]:
    """Read once: the tables of one report ask for the suite dozens of times."""
    folder = resources.files("lab.streams.scripted") / folder_name
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda f: f.name)
    return tuple(parse_script(f.read_text(encoding="utf-8"), f.name) for f in files)

"""Requests and responses of the scorer's HTTP interface: one declaration for validation, encoding and OpenAPI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from model.config import MAX_QUERY
from model.encoding.domain import UNKNOWN, Domain
from model.exploration import Sampled

Identifier = Annotated[str, Meta(min_length=1, max_length=512)]
Facet = Annotated[str, Meta(max_length=512)]
Query = Annotated[str, Meta(min_length=1, max_length=MAX_QUERY)]


class DomainFacets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scene, region and period. A value that the configuration does not declare counts as `unknown`."""

    scene: Facet = UNKNOWN
    region: Facet = UNKNOWN
    period: Facet = UNKNOWN

    def domain(self) -> Domain:
        """The same facets as the model's domain."""
        return Domain(self.scene, self.region, self.period)


class ScoreRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Candidates to be ranked for one user."""

    user_id: Annotated[Identifier, Meta(description="An unknown user is scored by defaults.")]
    candidates: Annotated[
        list[Identifier],
        Meta(
            description="Item ids. An unknown item is scored by defaults; an item named twice is scored once, at its "
            "first place."
        ),
    ]
    domain: DomainFacets = DomainFacets()
    top_k: Annotated[int, Meta(ge=1, description="Only this many of the best are returned and logged.")] | None = None
    arms: Annotated[bool, Meta(description="Whether the answer also has both arms' scores of the items.")] = False
    query: (
        Annotated[
            Query,
            Meta(
                description="What the user searches for; without it the request is for a recommendation. The backbone "
                "must read queries (`backbone.query_aspects`)."
            ),
        ]
        | None
    ) = None


class ItemScore(msgspec.Struct, frozen=True):
    """One ranked item. `ctr`, `cvr` and `ctcvr` are set if the backbone was trained on conversions, `ctr` and
    `relevance` if it predicts relevance and the request has a query."""

    item_id: str
    score: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="The score that items are ordered by: the click probability by the served arm, times "
            "`1 - w + w cvr` with `scorer.conversion_weight` w, times `1 - r + r relevance` with "
            "`scorer.relevance_weight` r.",
        ),
    ]
    ctr: Annotated[float, Meta(ge=0, le=1, description="Click probability by the served arm.")] | UnsetType = UNSET
    cvr: (
        Annotated[float, Meta(ge=0, le=1, description="Probability of a conversion given a click, by the served arm.")]
        | UnsetType
    ) = UNSET
    ctcvr: Annotated[float, Meta(ge=0, le=1, description="Of click and conversion: `ctr cvr`.")] | UnsetType = UNSET
    relevance: (
        Annotated[float, Meta(ge=0, le=1, description="Relevance of the item to the query, by the frozen backbone.")]
        | UnsetType
    ) = UNSET


class ArmScores(msgspec.Struct, frozen=True):
    """Scores of one ranked item by both arms, whichever is served."""

    item_id: str
    frozen: Annotated[float, Meta(ge=0, le=1, description="Click probability by the frozen arm.")]
    live: Annotated[float, Meta(ge=0, le=1, description="Click probability by the live arm.")]


class FirstPlace(msgspec.Struct, frozen=True):
    """How the item of the first place was drawn."""

    place: Annotated[int, Meta(ge=1, description="The place that its score alone would have given it.")]
    probability: Annotated[float, Meta(gt=0, le=1, description="Probability with which it was drawn, the propensity.")]

    @staticmethod
    def of(sampled: Sampled) -> FirstPlace:
        """The draw as it is answered; places count from 1."""
        return FirstPlace(sampled.place + 1, min(float(sampled.chances[sampled.place]), 1.0))


class ScoreResponse(msgspec.Struct, frozen=True):
    """The ranking that was served, which is logged as an impression under `request_id`."""

    request_id: Annotated[str, Meta(description="Send it with feedback; it names the kernel group.")]
    kernel_version: Annotated[int, Meta(description="Kernel that made the scores; 0 is the frozen backbone alone.")]
    group: Annotated[str, Meta(description="Kernel group that answered.")]
    scores: Annotated[
        list[ItemScore],
        Meta(
            description="Best first; with `explored` the first one was drawn by chance, and the others are best first."
        ),
    ]
    duplicates: Annotated[int, Meta(description="Number of candidates that repeat an earlier one of the request.")] = 0
    arms: Annotated[list[ArmScores], Meta(description="In the order of `scores`, if `arms` was requested.")] | (
        UnsetType
    ) = UNSET
    explored: Annotated[FirstPlace, Meta(description="Only in a request that explores (`scorer.explore_share`).")] | (
        UnsetType
    ) = UNSET


class EventsAccepted(msgspec.Struct, frozen=True):
    """All events of the call are written and acknowledged by the broker."""

    accepted: int


class Problem(msgspec.Struct, frozen=True):
    """Why a call was refused."""

    error: Annotated[str, Meta(description="A short stable name.")]
    detail: Annotated[str, Meta(description="What is wrong, where, and how to mend it.")]


class Readiness(msgspec.Struct, frozen=True):
    """Whether traffic may be sent here."""

    ready: bool
    missing: Annotated[dict[str, str], Meta(description="What must still happen; empty when ready.")]


class Health(msgspec.Struct, frozen=True):
    """Whether the process works."""

    healthy: bool
    checks: dict[str, str]


class CurrentKernel(msgspec.Struct, frozen=True):
    """The kernel that a group is served by, and the operator's newest order."""

    group: str
    version: Annotated[int, Meta(description="Kernel whose scores are served; 0 is the frozen arm.")]
    published: Annotated[int, Meta(description="Newest valid kernel of the log; 0 if there is none.")] = 0
    pinned: Annotated[int | None, Meta(description="Version that an operator pinned.")] = None
    frozen: Annotated[bool, Meta(description="An operator froze the group: the frozen arm is served.")] = False
    learning: Annotated[bool, Meta(description="False: an operator stopped learning.")] = True
    by: Annotated[str, Meta(description="Who gave the newest order.")] = ""
    why: Annotated[str, Meta(description="The reason given with the newest order.")] = ""
    ordered_at: Annotated[float, Meta(description="Time of it, seconds since the epoch; 0 without an order.")] = 0.0
    newest_event_time: Annotated[
        float | None, Meta(description="Event time of the newest example that the served kernel learned; null without.")
    ] = None


class HotSwap(msgspec.Struct, frozen=True):
    """One change of the kernel that serves a group."""

    group: str
    version: int
    newest_event_time: Annotated[float, Meta(description="Newest example it learned, seconds since the epoch.")]
    taken_at: Annotated[float, Meta(description="Wall-clock time of the swap, seconds since the epoch.")]
    freshness_s: Annotated[float, Meta(description="Seconds from the newest example to the kernel's use.")]
    examples: Annotated[int, Meta(description="Number of examples learned since the group began.")]
    at_start: Annotated[bool, Meta(description="Read from the log at the start, so it does not measure freshness.")]
    ordered: Annotated[bool, Meta(description="Made by an operator's order, so it does not measure freshness.")] = False


class KernelRefusal(msgspec.Struct, frozen=True):
    """A kernel that was refused."""

    group: str
    reason: str
    detail: str
    time: Annotated[float, Meta(description="Wall-clock time of the refusal, seconds since the epoch.")]


class KernelsResponse(msgspec.Struct, frozen=True):
    """Kernels in use, and the last changes, oldest first."""

    live_arm: Annotated[bool, Meta(description="False: the kernel is switched off, the frozen arm serves.")]
    current: list[CurrentKernel]
    swaps: list[HotSwap]
    refusals: list[KernelRefusal]


class RequestRefused(Exception):
    """A request that cannot be answered; `problem.error` is a stable name.

    A status below 500 is the caller's fault; 503 asks to send the same request again later.
    """

    def __init__(self, error: str, detail: str, status: int = 422, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.problem = Problem(error, detail)
        self.status = status
        self.headers = headers

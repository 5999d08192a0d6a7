"""The HTTP API, operation by operation: what each does, accepts, answers and refuses, with an example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from streaming.events import REASONS, Event, FeedbackEvent, ItemEvent, UserEvent
from streaming.scorer.page.views import HistoryResponse, OrderGiven, OrderRequest, StatusResponse
from streaming.scorer.schema import (
    DomainFacets,
    EventsAccepted,
    Health,
    ItemScore,
    KernelsResponse,
    Readiness,
    ScoreRequest,
    ScoreResponse,
)

_EventsBody = Event | list[Event]
_REQUEST_ID = "main.1f0c9a4e4b7d4c0f8d4f3a5d0b1c2e3f"
_EVENT_TIME = 1_767_225_600.0
_OF_THE_TOPIC = {
    "empty",
    "not_json",
    "unknown_event",
    "bad_shape",
    "too_large",
    "unreadable",
    "not_represented",
    "not_written",
    "failed",
}
_EVENT_RULES = "; ".join(f"`{reason}`: {text}" for reason, text in REASONS.items() if reason not in _OF_THE_TOPIC)

_BODY_PROBLEMS: Mapping[int, str] = MappingProxyType(
    {
        400: "The body cannot be decoded: `malformed_gzip`; or it was lost: `unsupported_upgrade`, the request asks "
        "for another protocol than HTTP/1.1.",
        413: "The body, as sent or decoded, exceeds `scorer.max_body_bytes`: `body_too_large`.",
        415: "The Content-Encoding is neither gzip nor identity, or Transfer-Encoding names more than chunks: "
        "`unsupported_encoding`.",
    }
)


_ACCESS_PROBLEMS: Mapping[int, str] = MappingProxyType(
    {
        401: "Keys are configured and the request has no valid one: `no_key`, `unknown_key`.",
        403: "The key is valid but lacks the right: `not_allowed`.",
        429: "More calls than `access.requests_per_s`: `too_many_requests`; Retry-After says when to try again.",
    }
)


@dataclass(frozen=True)
class Operation:
    """One method of one path. Types are msgspec declarations, and examples are values of them."""

    method: str
    path: str
    tag: str
    summary: str
    description: str
    answers: Mapping[int, tuple[Any, str]]
    """Type and meaning of the answer, by status."""
    problems: Mapping[int, str] = field(default_factory=dict)
    """Meaning by status; the type is `Problem`."""
    query: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    """Type and meaning of each query parameter; none is required."""
    query_example: Mapping[str, str] = field(default_factory=dict)
    """Values of some of them, for a call that works."""
    body: Any = None
    body_examples: Mapping[str, Any] = field(default_factory=dict)
    answer_example: Any = None


OPERATIONS = (
    Operation(
        "POST",
        "/v1/score",
        "scoring",
        "Rank candidates for a user",
        "Scores every candidate by the live arm and returns the best `top_k`, best first. The returned items are "
        "logged as an impression. Unknown users and items are scored by defaults; an undeclared domain value counts as "
        "`unknown`; a candidate named twice is scored once. All scores of one answer come from one kernel. With a "
        "backbone that was trained on conversions, each item also has `ctr`, `cvr` and `ctcvr`; with one that "
        "predicts relevance, each item of a request with a query has `ctr` and `relevance`. The order is by clicks "
        "unless `scorer.conversion_weight` or `scorer.relevance_weight` says otherwise.",
        answers={200: (ScoreResponse, "The ranking.")},
        problems={
            **_ACCESS_PROBLEMS,
            **_BODY_PROBLEMS,
            422: "The request is wrong: `malformed_json`, `invalid_request`, `empty_candidates`, "
            "`too_many_candidates`, `no_group` for a domain that no kernel group holds, or `no_query_aspect`: a query, "
            "but a backbone that reads none.",
            503: "`not_ready`, see `/readyz`; `feature_store`: it cannot be read; `busy`: large requests wait; "
            "`not_finite`: the backbone gives no candidate a finite score.",
        },
        body=ScoreRequest,
        body_examples={
            "evening": ScoreRequest("196", ["242", "302", "377"], DomainFacets("home", "zip5", "evening"), 2)
        },
        answer_example=ScoreResponse(_REQUEST_ID, 42, "main", [ItemScore("302", 0.71), ItemScore("242", 0.55)]),
    ),
    Operation(
        "POST",
        "/v1/events",
        "scoring",
        "Send events",
        "Writes one event, or a list of them, to Kafka and answers when the broker has acknowledged. Events are "
        "checked by the rules that ingest applies to the topic; if one of them breaks a rule, none is written. After "
        "a 503 send the same events again: repeated events do no harm.",
        answers={202: (EventsAccepted, "Written.")},
        problems={
            **_ACCESS_PROBLEMS,
            **_BODY_PROBLEMS,
            400: f"An event breaks a rule, the detail says which and where ({_EVENT_RULES}). {_BODY_PROBLEMS[400]}",
            413: f"{_BODY_PROBLEMS[413]} Or more events at once than `access.max_events`: `too_many_events`.",
            422: "`malformed_json`; `invalid_event`: a key is missing, unknown or of the wrong kind; `no_events`; "
            "`event_too_large`.",
            503: "The broker is away: `broker_away`, `broker_refused`; or `busy`.",
        },
        body=_EventsBody,
        body_examples={
            "click": FeedbackEvent(_REQUEST_ID, "302", _EVENT_TIME),
            "profiles": [
                ItemEvent("9001", _EVENT_TIME, "Heat (1995)", {"year": 1995.0}),
                UserEvent("8001", _EVENT_TIME, {"age": 33.0}),
            ],
        },
        answer_example=EventsAccepted(2),
    ),
    Operation(
        "GET",
        "/v1/kernels",
        "kernels",
        "Kernels in use and their history",
        "The kernel of every group, the last thousand swaps with their freshness, and the last refusals.",
        answers={200: (KernelsResponse, "Kernels.")},
        problems=_ACCESS_PROBLEMS,
        query={"last": (int, "Only so many of the newest swaps.")},
    ),
    Operation(
        "GET",
        "/v1/status",
        "kernels",
        "The state of every group, and recent decisions",
        "The data of the page at `/`: is interest drifting, does the kernel handle it, did we break something; the "
        "newest status of each group, domain by domain, with verdict, evidence and advice; and the decisions of the "
        "last hours.",
        answers={200: (StatusResponse, "The status.")},
        problems=_ACCESS_PROBLEMS,
        query={
            "after": (int, "Return only decisions after the first so many: `decision_count` of the previous answer.")
        },
    ),
    Operation(
        "GET",
        "/v1/history",
        "kernels",
        "One domain over the last hours",
        "Both arms, the label rate and the expected performance before labels: at most two thousand points, sparser "
        "the older they are.",
        answers={200: (HistoryResponse, "The past.")},
        problems={**_ACCESS_PROBLEMS, 404: "There is no such group: `unknown_group`.", 422: "`invalid_request`."},
        query={
            "group": (str, "Kernel group."),
            "stratum": (str, "`group` for the whole, or a facet and its value: `scene=home`."),
            "since": (float, "Return only points after this event time, seconds since the epoch."),
        },
        query_example={"group": "main", "stratum": "group"},
    ),
    Operation(
        "POST",
        "/v1/orders",
        "kernels",
        "Control what is served",
        "Operator control, the same as `driftline kernel`: pin a version of the history, roll back, freeze, stop "
        "learning, or resume. Every scorer obeys within a second. Each order is recorded with who gave it and why. A "
        "browser may send it only from this scorer's own page.",
        answers={202: (OrderGiven, "The order that now holds for the group.")},
        problems={
            **_ACCESS_PROBLEMS,
            **_BODY_PROBLEMS,
            403: f"{_ACCESS_PROBLEMS[403]} Or the request comes from another site's page: `other_origin`.",
            422: "`malformed_json`, `invalid_request`; `order_refused`: there is no such group, or no such version.",
            503: "The broker is away: `broker_away`.",
        },
        body=OrderRequest,
        body_examples={"rollback": OrderRequest("main", "rollback", why="scores fell after 14:00", by="ann")},
        answer_example=OrderGiven("main", 41, False, True, "ann (oncall)", "scores fell after 14:00", _EVENT_TIME),
    ),
    Operation(
        "GET",
        "/healthz",
        "operations",
        "Does the process work?",
        "503 once a background task has died (the process then ends), or while the event loop is blocked.",
        answers={200: (Health, "Healthy."), 503: (Health, "Unhealthy.")},
    ),
    Operation(
        "GET",
        "/readyz",
        "operations",
        "May traffic be sent here?",
        "200 after the warm-up and once the newest kernels are in use; before that 503 with what is missing.",
        answers={200: (Readiness, "Ready."), 503: (Readiness, "Not ready.")},
    ),
)

"""The OpenAPI page: one source, the msgspec declarations, and a description and example per operation."""

from __future__ import annotations

import importlib.metadata
from typing import Any

from fastapi import FastAPI

from streaming.events import Event
from streaming.scorer.schema import (
    EventsAccepted,
    Health,
    Kernels,
    Problem,
    Readiness,
    ScoreRequest,
    ScoreResponse,
    components,
)

ABOUT: dict[str, Any] = {
    "title": "Driftline scorer",
    "summary": "Ranks candidates by a frozen backbone and a kernel that learns from the live stream.",
    "description": (
        "Send candidates to `/v1/score`, show the ranking, and send what the user did to `/v1/events` under the same "
        "`request_id`: seconds later a kernel that has learned from it answers."
    ),
    "version": importlib.metadata.version("driftline"),
    "license_info": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    "openapi_tags": [
        {"name": "scoring", "description": "Ranking candidates, and telling what the user did."},
        {"name": "kernels", "description": "Which kernel answers, and how fresh it is."},
        {"name": "operations", "description": "Health, readiness and metrics."},
    ],
}

_EVENT_LIST = list[Event]
_SCHEMAS, _COMPONENTS = components(
    [ScoreRequest, ScoreResponse, Event, _EVENT_LIST, EventsAccepted, Problem, Readiness, Health, Kernels]
)
_SCORE_REQUEST, _SCORE_RESPONSE, _EVENT, _EVENTS, _ACCEPTED, _PROBLEM, _READINESS, _HEALTH, _KERNELS = _SCHEMAS

_SCORE_EXAMPLE = {
    "user_id": "196",
    "domain": {"scene": "home", "region": "zip5", "period": "evening"},
    "candidates": ["242", "302", "377"],
    "top_k": 2,
}
_SCORED_EXAMPLE = {
    "request_id": "main.1f0c9a4e4b7d4c0f8d4f3a5d0b1c2e3f",
    "kernel_version": 42,
    "group": "main",
    "scores": [{"item_id": "302", "score": 0.71}, {"item_id": "242", "score": 0.55}],
    "duplicates": 0,
}
_EVENT_EXAMPLES = {
    "click": {
        "summary": "A click on what was served",
        "value": {
            "event": "feedback",
            "request_id": "main.1f0c9a4e4b7d4c0f8d4f3a5d0b1c2e3f",
            "item_id": "302",
            "time": 1_767_225_600.0,
            "kind": "click",
        },
    },
    "profiles": {
        "summary": "A new item and a new user",
        "value": [
            {
                "event": "item",
                "item_id": "9001",
                "time": 1_767_225_600.0,
                "text": "Heat (1995)",
                "fields": {"year": 1995.0},
            },
            {"event": "user", "user_id": "8001", "time": 1_767_225_600.0, "fields": {"age": 33.0}},
        ],
    },
}


def _content(schema: dict[str, Any], example: Any = None, examples: dict[str, Any] | None = None) -> dict[str, Any]:
    media: dict[str, Any] = {"schema": schema}
    if example is not None:
        media["example"] = example
    if examples is not None:
        media["examples"] = examples
    return {"application/json": media}


def _problem(description: str, error: str, detail: str) -> dict[str, Any]:
    return {"description": description, "content": _content(_PROBLEM, {"error": error, "detail": detail})}


def _operation(
    tag: str, name: str, summary: str, description: str, responses: dict[int, Any], **extra: Any
) -> dict[str, Any]:
    return {
        "tags": [tag],
        "operation_id": name,
        "summary": summary,
        "description": description,
        "response_model": None,
        "openapi_extra": {"responses": {str(code): answer for code, answer in responses.items()}, **extra},
    }


def _body(schema: dict[str, Any], **kinds: Any) -> dict[str, Any]:
    return {"required": True, "content": _content(schema, **kinds)}


_TOO_LARGE = _problem("The body is too large.", "body_too_large", "the body exceeds 4194304 bytes: send less, ...")

OPERATIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/v1/score"): _operation(
        "scoring",
        "score",
        "Rank candidates for a user",
        "Scores every candidate by the live arm and returns the best `top_k`, best first. What is returned is logged "
        "as an impression. Unknown users and items are scored by defaults; an undeclared domain value counts as "
        "`unknown`; a candidate named twice is scored once. All scores of one answer come from one kernel.",
        {
            200: {"description": "The ranking.", "content": _content(_SCORE_RESPONSE, _SCORED_EXAMPLE)},
            413: _TOO_LARGE,
            422: _problem(
                "The request is wrong: `malformed_json`, `invalid_request`, `empty_candidates`, `too_many_candidates`, "
                "or `no_group` for a domain that no kernel group holds.",
                "empty_candidates",
                "candidates is empty: name at least one item - at `$.candidates`",
            ),
            503: _problem("Not ready yet, see `/readyz`.", "not_ready", "topic 'kernels' is not read to its end yet"),
        },
        requestBody=_body(_SCORE_REQUEST, example=_SCORE_EXAMPLE),
    ),
    ("POST", "/v1/events"): _operation(
        "scoring",
        "events",
        "Send events",
        "Writes one event, or a list of them, to Kafka and answers when the broker has acknowledged. Either all events "
        "are valid or none is written. After a 503 send the same events again: a repetition does no harm.",
        {
            202: {"description": "Written.", "content": _content(_ACCEPTED, {"accepted": 2})},
            413: _TOO_LARGE,
            422: _problem(
                "An event is wrong; the detail says which and where.",
                "invalid_event",
                "Object missing required field `time` - at `$[1]`",
            ),
            503: _problem("The broker is away.", "broker_away", "the broker has not acknowledged within 5 s: ..."),
        },
        requestBody=_body({"anyOf": [_EVENT, _EVENTS]}, examples=_EVENT_EXAMPLES),
    ),
    ("GET", "/v1/kernels"): _operation(
        "kernels",
        "kernels",
        "Kernels in use and their history",
        "The kernel of every group, the last thousand swaps with their freshness, and the last refusals.",
        {200: {"description": "Kernels.", "content": _content(_KERNELS)}},
    ),
    ("GET", "/healthz"): _operation(
        "operations",
        "healthz",
        "Does the process work?",
        "503 once a background task has died; the process then ends by itself.",
        {
            200: {"description": "Healthy.", "content": _content(_HEALTH)},
            503: {"description": "Unhealthy.", "content": _content(_HEALTH)},
        },
    ),
    ("GET", "/readyz"): _operation(
        "operations",
        "readyz",
        "May traffic be sent here?",
        "200 after the warm-up and once the newest kernels are in use; before that 503 with what is missing.",
        {
            200: {"description": "Ready.", "content": _content(_READINESS)},
            503: {"description": "Not ready.", "content": _content(_READINESS)},
        },
    ),
    ("GET", "/metrics"): _operation(
        "operations",
        "metrics",
        "Prometheus metrics",
        "In the exposition format that the client asks for.",
        {200: {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
    ),
}


def complete(app: FastAPI) -> None:
    """Adds the shared schemas, and takes out the validation models that the interface does not use."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document.setdefault("components", {}).setdefault("schemas", {}).update(_COMPONENTS)
        return document

    app.openapi = openapi  # type: ignore[method-assign]

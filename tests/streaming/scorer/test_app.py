"""The HTTP interface over the ASGI transport: answers, refusals by name, health, readiness, the OpenAPI page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from streaming.events import FeedbackEvent
from tests.streaming.scorer.scoring_parts import FakeBackend, asgi_client

GOOD = {"user_id": "u", "candidates": ["a", "b", "c"], "domain": {"scene": "home", "period": "day"}}


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
async def client(backend: FakeBackend) -> AsyncIterator[httpx.AsyncClient]:
    async with asgi_client(backend) as client:
        yield client


async def test_a_request_is_answered_with_ranked_scores(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/score", json={**GOOD, "top_k": 2})
    assert answer.status_code == 200
    body = answer.json()
    assert len(body["scores"]) == 2
    assert body["scores"][0]["score"] >= body["scores"][1]["score"]
    assert (body["kernel_version"], body["group"], body["duplicates"]) == (2, "main", 0)
    assert body["request_id"].startswith("main.")


REFUSED: dict[str, tuple[Any, str, str]] = {
    "no candidates": ({**GOOD, "candidates": []}, "empty_candidates", "$.candidates"),
    "too many": ({**GOOD, "candidates": [str(i) for i in range(51)]}, "too_many_candidates", "scorer.max_candidates"),
    "no user": ({"candidates": ["a"]}, "invalid_request", "user_id"),
    "a number as item": ({**GOOD, "candidates": [1]}, "invalid_request", "$.candidates[0]"),
    "an unknown key": ({**GOOD, "limit": 3}, "invalid_request", "limit"),
    "an unknown facet": ({**GOOD, "domain": {"country": "se"}}, "invalid_request", "country"),
    "top_k of none": ({**GOOD, "top_k": 0}, "invalid_request", "$.top_k"),
    "no group": ({**GOOD, "domain": {"period": "night"}}, "no_group", "night"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_wrong_request_is_refused_and_says_where(client: httpx.AsyncClient, case: str) -> None:
    body, error, where = REFUSED[case]
    answer = await client.post("/v1/score", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"] == error
    assert where in answer.json()["detail"]


async def test_what_is_not_json_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/score", content=b"{user_id")
    assert (answer.status_code, answer.json()["error"]) == (422, "malformed_json")


@pytest.mark.parametrize("path", ["/v1/score", "/v1/events"])
async def test_a_body_over_the_limit_is_refused_naming_the_key(client: httpx.AsyncClient, path: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * 1_000

    for content in (b" " * 5_000, chunks()):
        answer = await client.post(path, content=content)
        assert (answer.status_code, answer.json()["error"]) == (413, "body_too_large")
        assert "scorer.max_body_bytes" in answer.json()["detail"]


async def test_before_it_is_ready_it_does_not_score_and_says_what_is_missing(
    client: httpx.AsyncClient, backend: FakeBackend
) -> None:
    backend.waits_for = {"kernels": "topic 'kernels' is not read to its end yet"}
    ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json() == {"ready": False, "missing": backend.waits_for}
    answer = await client.post("/v1/score", json=GOOD)
    assert (answer.status_code, answer.json()["error"]) == (503, "not_ready")
    assert answer.headers["retry-after"] == "1"
    backend.waits_for = {}
    assert (await client.get("/readyz")).json() == {"ready": True, "missing": {}}


async def test_health_names_what_is_wrong(client: httpx.AsyncClient, backend: FakeBackend) -> None:
    assert (await client.get("/healthz")).json() == {"healthy": True, "checks": {"tasks": "ok"}}
    backend.checks = {"tasks": lambda: "kernel-follower died"}
    answer = await client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["tasks"] == "kernel-follower died"


async def test_events_are_taken_one_or_many(client: httpx.AsyncClient, backend: FakeBackend) -> None:
    click = {"event": "feedback", "request_id": "main.1", "item_id": "a", "time": 1.0}
    assert (await client.post("/v1/events", json=click)).json() == {"accepted": 1}
    answer = await client.post("/v1/events", json=[click, {**click, "kind": "conversion"}])
    assert (answer.status_code, answer.json()) == (202, {"accepted": 2})
    kinds = [event.kind for event in backend.events if isinstance(event, FeedbackEvent)]
    assert kinds == ["click", "click", "conversion"]


WRONG_EVENTS: dict[str, tuple[Any, str]] = {
    "unknown kind": ({"event": "purchase", "time": 1}, "purchase"),
    "no time, second of two": (
        [{"event": "user", "user_id": "u", "time": 1}, {"event": "user", "user_id": "u"}],
        "$[1]",
    ),
    "an unknown key": ({"event": "user", "user_id": "u", "time": 1, "colour": "red"}, "colour"),
    "a number": (5, "Expected"),
    "nothing": ([], "empty"),
}


@pytest.mark.parametrize("case", WRONG_EVENTS)
async def test_a_wrong_event_is_refused_by_name_and_nothing_is_written(
    client: httpx.AsyncClient, backend: FakeBackend, case: str
) -> None:
    body, where = WRONG_EVENTS[case]
    answer = await client.post("/v1/events", json=body)
    assert answer.status_code == 422
    assert where in answer.json()["detail"]
    assert backend.events == []


async def test_a_broker_that_is_away_is_said_to_the_sender(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/events", json={"event": "item", "item_id": "i", "time": 1})
    assert (answer.status_code, answer.json()["error"]) == (503, "broker_away")
    assert "retry-after" in answer.headers


async def test_an_unexpected_failure_is_an_answer_in_the_same_form(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/score", json={**GOOD, "user_id": "poison"})
    assert answer.status_code == 500
    assert "the store is gone" in answer.json()["detail"]


async def test_metrics_count_the_outcomes(client: httpx.AsyncClient) -> None:
    def counted(text: str, outcome: str) -> float:
        line = f'driftline_score_requests_total{{outcome="{outcome}"}} '
        return float(next((row for row in text.splitlines() if row.startswith(line)), "0").rsplit(" ", 1)[-1])

    before = (await client.get("/metrics")).text
    await client.post("/v1/score", json=GOOD)
    await client.post("/v1/score", json={})
    after = (await client.get("/metrics")).text
    for outcome in ("ok", "refused"):
        assert counted(after, outcome) == counted(before, outcome) + 1


async def test_concurrent_requests_each_get_their_own_request_id(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.post("/v1/score", json=GOOD) for _ in range(20)))
    assert len({answer.json()["request_id"] for answer in answers}) == 20


async def test_the_openapi_page_is_whole(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert set(document["paths"]) == {"/v1/score", "/v1/events", "/v1/kernels", "/healthz", "/readyz", "/metrics"}
    known = document["components"]["schemas"]
    references: list[str] = []

    def walk(part: Any) -> None:
        if isinstance(part, dict):
            references.extend([part["$ref"]] if isinstance(part.get("$ref"), str) else [])
            references.extend(part.get("discriminator", {}).get("mapping", {}).values())
            for value in part.values():
                walk(value)
        elif isinstance(part, list):
            for value in part:
                walk(value)

    walk(document)
    assert references
    assert {ref.removeprefix("#/components/schemas/") for ref in references} <= set(known)
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["summary"] and operation["description"] and operation["tags"]
            assert "HTTPValidationError" not in str(operation)
    assert document["paths"]["/v1/score"]["post"]["requestBody"]["content"]["application/json"]["example"]


async def test_the_front_page_leads_to_the_documentation(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.headers["location"] == "/docs"

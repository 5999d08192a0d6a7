"""The HTTP interface over the ASGI transport: answers, refusals by name, health, readiness, the OpenAPI page."""

from __future__ import annotations

import asyncio
import html
import re
import shlex
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from pydantic import ValidationError

from streaming.config import ScorerConfig
from streaming.events import FeedbackEvent
from streaming.scorer.app import make_app
from tests.streaming.scorer.scoring_parts import FakeBackend, asgi_client

GOOD = {"user_id": "u", "candidates": ["a", "b", "c"], "domain": {"scene": "home", "period": "day"}}


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
async def client(backend: FakeBackend) -> AsyncIterator[httpx.AsyncClient]:
    async with asgi_client(backend) as client:
        yield client


async def test_a_request_returns_ranked_scores(client: httpx.AsyncClient) -> None:
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
async def test_an_invalid_request_is_refused_with_the_location_of_the_error(
    client: httpx.AsyncClient, case: str
) -> None:
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


async def test_before_readiness_scoring_is_refused_with_what_is_missing(
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


async def test_health_reports_failing_checks(client: httpx.AsyncClient, backend: FakeBackend) -> None:
    assert (await client.get("/healthz")).json() == {"healthy": True, "checks": {"tasks": "ok"}}
    backend.checks = {"tasks": lambda: "kernel-follower died"}
    answer = await client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["tasks"] == "kernel-follower died"


async def test_events_are_accepted_one_or_many(client: httpx.AsyncClient, backend: FakeBackend) -> None:
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
    "a propensity, which only a scorer can know": (
        {"event": "impression", "request_id": "r", "user_id": "u", "items": ["i"], "time": 1, "propensity": 0.5},
        "propensity",
    ),
    "an unknown key": ({"event": "user", "user_id": "u", "time": 1, "colour": "red"}, "colour"),
    "a number": (5, "Expected"),
    "nothing": ([], "empty"),
}


@pytest.mark.parametrize("case", WRONG_EVENTS)
async def test_an_invalid_event_is_refused_by_name_and_nothing_is_written(
    client: httpx.AsyncClient, backend: FakeBackend, case: str
) -> None:
    body, where = WRONG_EVENTS[case]
    answer = await client.post("/v1/events", json=body)
    assert answer.status_code == 422
    assert where in answer.json()["detail"]
    assert backend.events == []


async def test_an_unavailable_broker_is_reported_to_the_sender(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/events", json={"event": "item", "item_id": "i", "time": 1})
    assert (answer.status_code, answer.json()["error"]) == (503, "broker_away")
    assert "retry-after" in answer.headers


async def test_an_unexpected_failure_has_the_same_response_format(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/score", json={**GOOD, "user_id": "poison"})
    assert answer.status_code == 500
    assert "the store is gone" in answer.json()["detail"]


PATHS = {"/healthz": "GET", "/readyz": "GET", "/docs": "GET", "/openapi.json": "GET", "/v1/kernels": "GET", "/": "GET"}
PATHS |= {"/v1/score": "POST", "/v1/events": "POST", "/v1/orders": "POST"}
PATHS |= {"/v1/status": "GET", "/v1/history": "GET", "/page/page.js": "GET"}


def test_every_path_of_the_interface_is_asked_for_its_methods(backend: FakeBackend) -> None:
    routes = {getattr(route, "path", "") for route in make_app(backend).routes}
    assert routes == {path.replace("page.js", "{name}") for path in PATHS}


@pytest.mark.parametrize("path", PATHS)
async def test_options_lists_the_methods_of_every_path(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.options(path)
    assert answer.status_code == 200
    assert (
        set(answer.headers["allow"].split(", "))
        == {
            "GET": {"GET", "HEAD", "OPTIONS"},
            "POST": {"POST", "OPTIONS"},
        }[PATHS[path]]
    )


async def test_head_of_a_scorer_that_is_not_ready_is_503(client: httpx.AsyncClient, backend: FakeBackend) -> None:
    backend.waits_for = {"broker": "it is away"}
    assert (await client.head("/readyz")).status_code == 503


async def test_another_method_or_path_is_refused_in_the_same_format(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/score")
    assert (answer.status_code, answer.json()["error"]) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == {"POST", "OPTIONS"}
    assert f"it takes {answer.headers['allow']}" in answer.json()["detail"]
    answer = await client.post("/v2/score")
    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
    assert "/docs" in answer.json()["detail"]


SHOP = "https://shop.example"
PREFLIGHT = {
    "Origin": SHOP,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type",
}


async def test_a_configured_cors_origin_may_call(backend: FakeBackend) -> None:
    async with asgi_client(backend, cors_origins=(SHOP,)) as client:
        preflight = await client.options("/v1/score", headers=PREFLIGHT)
        answer = await client.post("/v1/score", json=GOOD, headers={"Origin": SHOP})
        refused = await client.post("/v1/score", json={}, headers={"Origin": SHOP})
        other = await client.post("/v1/score", json=GOOD, headers={"Origin": "https://else.example"})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == SHOP
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert refused.headers["access-control-allow-origin"] == SHOP
    assert "access-control-allow-origin" not in other.headers


async def test_without_a_configured_cors_origin_no_page_may_call(client: httpx.AsyncClient) -> None:
    for answer in (
        await client.options("/v1/score", headers=PREFLIGHT),
        await client.post("/v1/score", json=GOOD, headers={"Origin": SHOP}),
    ):
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", ["shop.example", "https://shop.example/", "https://Shop.example", "", "https://*"])
def test_an_invalid_origin_is_refused_with_the_valid_format(origin: str) -> None:
    with pytest.raises(ValidationError, match="scheme://host"):
        ScorerConfig(cors_origins=(origin,))


def test_origins_in_the_form_that_browsers_send_are_taken() -> None:
    origins = ("*", SHOP, "http://localhost:3000", "http://[::1]:8080")
    assert ScorerConfig(cors_origins=origins).cors_origins == origins


async def test_metrics_separate_client_errors_from_server_errors(
    client: httpx.AsyncClient, backend: FakeBackend
) -> None:
    outcomes = ("ok", "refused", "failed", "not_ready", "aborted")

    def counted() -> dict[str, float]:
        name = "driftline_score_requests_total"
        return {outcome: REGISTRY.get_sample_value(name, {"outcome": outcome}) or 0.0 for outcome in outcomes}

    before = counted()
    await client.post("/v1/score", json=GOOD)
    await client.post("/v1/score", json={})
    await client.post("/v1/score", json={**GOOD, "user_id": "no-features"})
    await client.post("/v1/score", json={**GOOD, "user_id": "poison"})
    backend.waits_for = {"broker": "it is away"}
    await client.post("/v1/score", json=GOOD)
    after = counted()
    assert {outcome: after[outcome] - before[outcome] for outcome in before} == {
        "ok": 1,
        "refused": 1,
        "failed": 2,
        "not_ready": 1,
        "aborted": 0,
    }


async def test_concurrent_requests_each_get_their_own_request_id(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.post("/v1/score", json=GOOD) for _ in range(20)))
    assert len({answer.json()["request_id"] for answer in answers}) == 20


async def test_the_openapi_document_is_complete(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    of_the_page = {"/v1/status", "/v1/history", "/v1/orders"}
    assert set(document["paths"]) == {"/v1/score", "/v1/events", "/v1/kernels", "/healthz", "/readyz"} | of_the_page
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


async def test_the_api_page_names_every_path_and_type_and_loads_nothing(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/docs")
    document = (await client.get("/openapi.json")).json()
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for name in (*document["paths"], *document["components"]["schemas"]):
        assert name in answer.text
    assert re.findall(r"<(?:script|link|img|iframe|object|embed|base|form)\b|\bsrc=|@import|url\(", answer.text) == []
    assert set(re.findall(r'href="([^"#]*)', answer.text)) <= {"openapi.json", ""}


async def test_operations_that_may_refuse_a_key_declare_that_they_take_one(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert any("security" in operation for operation in operations)
    for operation in operations:
        assert ("401" in operation["responses"]) == ({"key": []} in operation.get("security", []))
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


async def test_the_api_page_has_a_call_of_every_operation_that_works_when_pasted(client: httpx.AsyncClient) -> None:
    page = html.unescape((await client.get("/docs")).text)
    calls = [shlex.split(call) for call in re.findall(r"<pre>(curl .*?)</pre>", page)]
    document = (await client.get("/openapi.json")).json()
    assert len(calls) == sum(len(operations) for operations in document["paths"].values())
    for _, _, url, *body in calls:
        path = url.removeprefix("$SCORER")
        answer = await (client.post(path, content=body[1]) if body else client.get(path))
        assert answer.status_code < 400 or path == "/v1/orders", answer.text  # which takes a key


async def test_document_text_is_escaped_on_the_api_page(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    tags = set(re.findall(r"</?([a-z0-9]+)", page))
    known = "html head meta title style body h1 h2 h3 p a code pre ul li table tr th td"
    assert tags <= set(known.split())


@pytest.mark.parametrize("path", ["/redoc", "/docs/oauth2-redirect", "/metrics"])
async def test_no_other_page_is_served(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404

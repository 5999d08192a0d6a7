"""The scorer's HTTP interface, a thin shell around the core. Endpoints are in the order of the `/docs` page."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from streaming.events import Event
from streaming.events.decisions import Order
from streaming.events.rules import EventRules
from streaming.monitoring import metrics
from streaming.monitoring.health import Check, examine
from streaming.scorer import docs_page, openapi
from streaming.scorer.access import AccessControl, Caller, right_of
from streaming.scorer.body import decode_json, read_body
from streaming.scorer.core import Scored
from streaming.scorer.event_writer import decode_events
from streaming.scorer.page.endpoints import PageEndpoints, number_of
from streaming.scorer.page.views import OrderRequest, PageView
from streaming.scorer.responses import EXCEPTION_HANDLERS, json_response
from streaming.scorer.schema import (
    EventsAccepted,
    Health,
    KernelsResponse,
    Readiness,
    RequestRefused,
    ScoreRequest,
)

_score_decoder = msgspec.json.Decoder(ScoreRequest)
_NOT_READY = "not_ready"
_outcomes = {
    name: metrics.scorer.SCORE_REQUESTS.labels(outcome=name)
    for name in ("ok", "refused", "not_ready", "aborted", "failed")
}


class Backend(Protocol):
    """The part of the scorer that the HTTP interface calls."""

    max_body_bytes: int
    checks: dict[str, Check]
    """Checks of whether the process works."""
    access: AccessControl
    """Admits callers."""
    max_events: int
    """Largest number of events in one call."""
    page: PageView
    """The contents of the page at `/`."""
    rules: EventRules
    """The rules for outside events."""

    def now(self) -> float:
        """The time shared by all processes, seconds since the epoch."""

    def missing(self) -> dict[str, str]:
        """What must still happen before it may score; empty when ready."""

    async def score(self, request: ScoreRequest, time: float) -> Scored:
        """Scores, and logs the impression. Raises RequestRefused."""

    def kernels(self) -> KernelsResponse:
        """Kernels in use and their history."""

    async def order(self, request: OrderRequest, key: str) -> Order:
        """Gives an operator's order for the holder of a key. Raises RequestRefused."""

    async def write_events(self, events: list[Event]) -> None:
        """Writes outside events. Raises RequestRefused."""

    async def start(self) -> None:
        """Called once, before the first request."""

    async def stop(self) -> None:
        """Called once, after the last request."""


def make_app(backend: Backend, cors_origins: Sequence[str] = ()) -> FastAPI:
    """The application around `backend`, which it starts and stops; web pages of `cors_origins` may call it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await backend.start()
        yield
        await backend.stop()

    endpoints = Endpoints(backend)
    page = PageEndpoints(backend.page, backend.order, endpoints.enter, backend.max_body_bytes)
    return FastAPI(
        **openapi.ABOUT,
        lifespan=lifespan,
        openapi_url=None,  # FastAPI's own route knows no OPTIONS
        docs_url=None,  # FastAPI's own pages load scripts from public hosts
        redoc_url=None,
        # Plain routes, because an endpoint decodes its body once, by msgspec, and needs no argument model
        # (docs/decisions/0042).
        routes=[
            _route("POST", "/v1/score", endpoints.score),
            _route("POST", "/v1/events", endpoints.events),
            _route("GET", "/v1/kernels", endpoints.kernels),
            _route("GET", "/v1/status", page.status),
            _route("GET", "/v1/history", page.history),
            _route("POST", "/v1/orders", page.orders),
            _route("GET", "/healthz", endpoints.healthz),
            _route("GET", "/readyz", endpoints.readyz),
            _route("GET", "/docs", endpoints.docs),
            _route("GET", "/openapi.json", endpoints.openapi),
            _route("GET", "/", page.front),
            _route("GET", "/page/{name}", page.file),
        ],
        middleware=_cors(cors_origins),
        exception_handlers=EXCEPTION_HANDLERS,
    )


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The endpoint functions."""

    backend: Backend

    async def score(self, request: Request) -> Response:
        """Ranks candidates, and counts the outcome."""
        began = time.perf_counter()
        try:
            response, candidates = await self._score(request)
        except Exception as error:
            _outcomes[_outcome(error)].inc()
            raise
        _outcomes["ok"].inc()
        metrics.scorer.SCORE_CANDIDATES.observe(candidates)
        metrics.scorer.SCORE_SECONDS.observe(time.perf_counter() - began)
        return response

    async def _score(self, request: Request) -> tuple[Response, int]:
        self.enter(request).need("score")
        # A scorer without the newest kernel would answer differently from its neighbours, so it must wait
        # (docs/decisions/0043).
        missing = self.backend.missing()
        if missing:
            raise RequestRefused(_NOT_READY, "; ".join(missing.values()), 503)
        body = await read_body(request, self.backend.max_body_bytes)
        decoded = decode_json(_score_decoder, body, "invalid_request")
        # No thread pool: scoring holds the interpreter's lock, so threads only add switches (docs/decisions/0042).
        scored = await self.backend.score(decoded, self.backend.now())
        self.backend.page.asked(decoded)
        return json_response(scored.response), len(decoded.candidates)

    async def events(self, request: Request) -> Response:
        """Takes events, and answers after the broker has acknowledged them."""
        caller = self.enter(request)
        body = await read_body(request, self.backend.max_body_bytes)
        events = decode_events(body, self.backend.rules, self.backend.now(), self.backend.max_events)
        for right in {right_of(event) for event in events}:
            caller.need(right)
        await self.backend.write_events(events)
        return json_response(EventsAccepted(len(events)), 202)

    async def kernels(self, request: Request) -> Response:
        """Kernels in use and their history."""
        self.enter(request).need("read")
        known = self.backend.kernels()
        if "last" in request.query_params:
            last = max(int(number_of(request, "last")), 0)
            known = msgspec.structs.replace(known, swaps=known.swaps[len(known.swaps) - min(last, len(known.swaps)) :])
        return json_response(known)

    def enter(self, request: Request) -> Caller:
        """The caller. Raises RequestRefused."""
        address = request.client.host if request.client is not None else ""
        return self.backend.access.enter(request.headers.get("authorization", ""), address)

    async def healthz(self, _: Request) -> Response:
        """Whether the process works."""
        problems = examine(self.backend.checks)
        checks = {name: problems.get(name, "ok") for name in self.backend.checks}
        return json_response(Health(not problems, checks), 503 if problems else 200)

    async def readyz(self, _: Request) -> Response:
        """Whether traffic may be sent here."""
        missing = self.backend.missing()
        return json_response(Readiness(not missing, missing), 503 if missing else 200)

    async def openapi(self, _: Request) -> Response:
        """The document that describes the interface to programs."""
        return json_response(openapi.document())

    async def docs(self, _: Request) -> Response:
        """The page that documents the interface; it loads nothing."""
        return HTMLResponse(docs_page.page(), headers=docs_page.HEADERS)


def _outcome(error: Exception) -> str:
    """The outcome that an error counts as. Only `failed` raises an alert, so callers' faults and a starting scorer must
    not count there."""
    if isinstance(error, ClientDisconnect):
        return "aborted"
    if isinstance(error, RequestRefused):
        if error.problem.error == _NOT_READY:
            return "not_ready"
        return "refused" if error.status < 500 else "failed"
    return "failed"


def _route(method: str, path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
    """`method` at `path`, with OPTIONS, and HEAD beside GET, because load balancers and browsers use them."""

    async def answer(request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(headers={"Allow": ", ".join(sorted(route.methods or ()))})
        return await endpoint(request)

    route = Route(path, answer, methods=[method, "OPTIONS"])
    return route


def _cors(origins: Sequence[str]) -> list[Middleware]:
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "Content-Encoding"],
            expose_headers=["Retry-After"],
        )
    ]

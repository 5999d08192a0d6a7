"""The scorer's HTTP interface: a thin shell around the core."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from streaming.events import Event
from streaming.monitoring import metrics
from streaming.monitoring.health import Check, examine
from streaming.scorer import openapi
from streaming.scorer.core import Scored
from streaming.scorer.event_writer import decode_events
from streaming.scorer.schema import (
    EventsAccepted,
    Health,
    Kernels,
    Problem,
    Readiness,
    RequestRefused,
    ScoreRequest,
    decode_score_request,
)

log = logging.getLogger(__name__)

_encoder = msgspec.json.Encoder()
_ok, _refused, _failed = (metrics.SCORE_REQUESTS.labels(outcome=name) for name in ("ok", "refused", "failed"))


class Backend(Protocol):
    """What the interface is a shell of."""

    max_body_bytes: int
    checks: dict[str, Check]
    """Whether the process works."""

    def missing(self) -> dict[str, str]:
        """What has to happen before it may score, empty when ready."""

    def score(self, request: ScoreRequest, time: float) -> Scored:
        """Scores, and logs the impression. Raises RequestRefused."""

    def kernels(self) -> Kernels:
        """Kernels in use and their history."""

    async def write_events(self, events: list[Event]) -> None:
        """Writes outside events. Raises RequestRefused."""

    async def start(self) -> None:
        """Called once, before the first request."""

    async def stop(self) -> None:
        """Called once, after the last request."""


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(_encoder.encode(value), status, headers, media_type="application/json")


async def read_body(request: Request, limit: int) -> bytes:
    """The body, at most `limit` bytes. Raises RequestRefused (413) as soon as it is known to be longer."""
    parts, size = [], int(request.headers.get("content-length") or 0)
    if size <= limit:
        size = 0
        async for part in request.stream():
            parts.append(part)
            size += len(part)
            if size > limit:
                break
    if size > limit:
        raise RequestRefused(
            "body_too_large", f"the body exceeds {limit} bytes: send less, or raise scorer.max_body_bytes", status=413
        )
    return b"".join(parts)


def make_app(backend: Backend) -> FastAPI:
    """The application around `backend`, which it starts and stops."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await backend.start()
        yield
        await backend.stop()

    app = FastAPI(**openapi.ABOUT, lifespan=lifespan)
    app.add_exception_handler(RequestRefused, _answer_refused)
    app.add_exception_handler(Exception, _answer_failed)
    _add_scoring(app, backend)
    _add_operations(app, backend)
    openapi.complete(app)
    return app


async def _answer_refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRefused)
    return _json(error.problem, error.status, {"Retry-After": "1"} if error.status == 503 else None)


async def _answer_failed(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _json(Problem("internal", f"{type(error).__name__}: {error}; the scorer's log has the rest"), 500)


def _add_scoring(app: FastAPI, backend: Backend) -> None:
    # A plain route, not a decorated endpoint: the body is decoded once by msgspec, and no argument model is built.
    async def score(request: Request) -> Response:
        began = time.perf_counter()
        try:
            missing = backend.missing()
            if missing:
                raise RequestRefused("not_ready", "; ".join(missing.values()), status=503)
            asked = decode_score_request(await read_body(request, backend.max_body_bytes))
            scored = backend.score(asked, time.time())
        except RequestRefused:
            _refused.inc()
            raise
        except Exception:
            _failed.inc()
            raise
        answer = _json(scored.response)
        _ok.inc()
        metrics.SCORE_CANDIDATES.observe(len(asked.candidates))
        metrics.SCORE_SECONDS.observe(time.perf_counter() - began)
        return answer

    async def events(request: Request) -> Response:
        taken = decode_events(await read_body(request, backend.max_body_bytes))
        await backend.write_events(taken)
        return _json(EventsAccepted(len(taken)), 202)

    _route(app, "POST", "/v1/score", score)
    _route(app, "POST", "/v1/events", events)


def _add_operations(app: FastAPI, backend: Backend) -> None:
    async def kernels(_: Request) -> Response:
        return _json(backend.kernels())

    async def healthz(_: Request) -> Response:
        problems = examine(backend.checks)
        checks = {name: problems.get(name, "ok") for name in backend.checks}
        return _json(Health(not problems, checks), 503 if problems else 200)

    async def readyz(_: Request) -> Response:
        missing = backend.missing()
        return _json(Readiness(not missing, missing), 503 if missing else 200)

    async def prometheus(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(REGISTRY), media_type=content_type)

    async def front(_: Request) -> Response:
        return RedirectResponse("/docs")

    _route(app, "GET", "/v1/kernels", kernels)
    _route(app, "GET", "/healthz", healthz)
    _route(app, "GET", "/readyz", readyz)
    _route(app, "GET", "/metrics", prometheus)
    app.add_api_route("/", front, include_in_schema=False)


def _route(app: FastAPI, method: str, path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
    app.add_api_route(path, endpoint, methods=[method], **openapi.OPERATIONS[method, path])

"""JSON responses, and the status of each kind of error: the caller's fault 4xx, temporary 503, a fault here 500."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from streaming.scorer.schema import Problem, RequestRefused

log = logging.getLogger(__name__)

_encoder = msgspec.json.Encoder()
_HEADERS: Mapping[int, Mapping[str, str]] = MappingProxyType(
    {503: {"Retry-After": "1"}, 415: {"Accept-Encoding": "gzip"}}
)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response with `value`, a msgspec declaration, as its body."""
    return Response(_encoder.encode(value), status, headers, media_type="application/json")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRefused)
    return json_response(error.problem, error.status, error.headers or _HEADERS.get(error.status))


async def _unrouted(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    name = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http")
    allowed = (error.headers or {}).get("Allow", "")
    cure = f"it takes {allowed}, see /docs" if allowed else "see /docs"
    problem = Problem(name, f"{request.method} {request.url.path}: {error.detail}; {cure}")
    return json_response(problem, error.status_code, error.headers)


async def _hung_up(request: Request, _: Exception) -> Response:
    """The client disconnected before its body was complete: nobody reads the answer, and nothing here has failed."""
    log.debug("%s %s: the client hung up before its body was whole", request.method, request.url.path)
    return Response(status_code=400)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return json_response(Problem("internal", f"{type(error).__name__}: {error}; the scorer's log has the rest"), 500)


EXCEPTION_HANDLERS: dict[int | type[Exception], Callable[[Request, Exception], Coroutine[Any, Any, Response]]] = {
    RequestRefused: _refused,
    HTTPException: _unrouted,
    ClientDisconnect: _hung_up,
    Exception: _failed,
}

"""HTTP endpoints of every process: `/metrics`, `/healthz`, and `/readyz` for a process that takes traffic."""

from __future__ import annotations

import gzip
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from http import HTTPStatus
from socketserver import TCPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import msgspec
from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer, choose_encoder, gzip_accepted

from streaming.listening import CannotListenError, bare, family_of

Check = Callable[[], str | None]
"""Returns None if all is well, else a sentence that says what is wrong."""

Missing = Callable[[], Mapping[str, str]]
"""Returns what must happen before traffic may be sent, by name; empty when ready."""

_ALLOWED = "GET, HEAD, OPTIONS"
_MOST_CLIENTS = 32

log = logging.getLogger(__name__)


def examine(checks: Mapping[str, Check]) -> dict[str, str]:
    """Runs every check; returns the problems by name, empty if all is well. A check that raises is a problem."""
    problems = {}
    for name, check in checks.items():
        try:
            problem = check()
        except Exception as error:  # noqa: BLE001 - a broken check is itself what /healthz must show
            problem = f"the check failed: {type(error).__name__}: {error}"
        if problem is not None:
            problems[name] = problem
    return problems


def health_body(checks: Mapping[str, Check], problems: Mapping[str, str]) -> dict[str, Any]:
    """The answer of `/healthz`: every check by name, with `ok` or its problem."""
    return {"healthy": not problems, "checks": {name: problems.get(name, "ok") for name in checks}}


def readable_accept(accept: str) -> str:
    """`accept`, or empty (which accepts any format) if prometheus-client would raise because of a version that is no
    number."""
    try:
        choose_encoder(accept)
    except (TypeError, ValueError):
        return ""
    return accept


class _QuietHandler(WSGIRequestHandler):
    timeout = 5  # seconds, after which a stalled client releases its thread

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("health server: " + format, *args)


class _Server(ThreadingWSGIServer):
    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        self._places = threading.BoundedSemaphore(_MOST_CLIENTS)
        self.address_family = family_of(address[0])
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        # One thread per client, but not without limit: half-sent requests would fill the process with threads.
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def server_bind(self) -> None:
        # The base class looks up the host's full name, which takes seconds on a machine without DNS.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # The base class prints a traceback when a client disconnects or stalls, which is no failure of this process.
        if isinstance(sys.exception(), OSError):
            log.debug("health server: %s hung up or stalled", client_address)
        else:
            log.exception("health server: the answer to %s failed", client_address)


class HealthServer:
    """Serves `/metrics` (this process's Prometheus registry) and `/healthz` on their own port and threads
    (docs/decisions/0040), so that they answer even while the process is busy.
    """

    def __init__(
        self,
        host: str,
        port: int,
        checks: Mapping[str, Check],
        *,
        section: str = "*",
        missing: Missing | None = None,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        """Binds the port at once; port 0 takes a free one. `missing` adds `/readyz`.

        Raises CannotListenError, which names the keys of `section`, the process's part of the configuration.
        """
        self._checks = dict(checks)
        self._missing = missing
        self._metrics = make_wsgi_app(registry, disable_compression=True)
        try:
            self._server = make_server(
                bare(host), port, self._answer, server_class=_Server, handler_class=_QuietHandler
            )
        except (OSError, ValueError) as error:  # ValueError: a name that no host can have
            raise CannotListenError(
                host, port, (f"{section}.metrics_host", f"{section}.metrics_port"), error
            ) from error
        self.port: int = self._server.server_address[1]
        """The port it listens on."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="health-server", daemon=True
        )

    def start(self) -> HealthServer:
        """Starts to answer; returns itself."""
        self._thread.start()
        log.info("metrics and health on port %d", self.port)
        return self

    def stop(self) -> None:
        """Stops and frees the port. It may be called before `start` and repeatedly."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> HealthServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO")
        paths = ["/metrics", "/healthz"] + (["/readyz"] if self._missing is not None else [])
        answer: Iterable[bytes]
        if path not in paths:
            answer = _json(start_response, 404, {"detail": f"there is {', '.join(paths)}"})
        elif method == "OPTIONS":
            start_response("200 OK", [("Allow", _ALLOWED), ("Content-Length", "0")])
            return []
        elif method not in ("GET", "HEAD"):
            answer = _json(start_response, 405, {"detail": "ask by GET"}, ("Allow", _ALLOWED))
        elif path == "/metrics":
            accept = readable_accept(environ.get("HTTP_ACCEPT", ""))
            answer = self._scraped({**environ, "REQUEST_METHOD": "GET", "HTTP_ACCEPT": accept}, start_response)
        elif path == "/readyz" and self._missing is not None:
            missing = dict(self._missing())
            answer = _json(start_response, 503 if missing else 200, {"ready": not missing, "missing": missing})
        else:
            problems = examine(self._checks)
            answer = _json(start_response, 503 if problems else 200, health_body(self._checks, problems))
        return [] if method == "HEAD" else answer

    def _scraped(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not gzip_accepted(environ.get("HTTP_ACCEPT_ENCODING", "")):
            plain: Iterable[bytes] = self._metrics(environ, start_response)
            return plain
        # The library compresses as small as it can, which takes a tenth of the scrape and saves a fifth of the bytes.
        text = b"".join(self._metrics(environ, partial(_packed, start_response)))
        return [gzip.compress(text, compresslevel=1)]


def _packed(start_response: Callable[..., Any], status: str, headers: list[tuple[str, str]]) -> None:
    start_response(status, [*headers, ("Content-Encoding", "gzip")])


def _json(
    start_response: Callable[..., Any], status: int, value: Mapping[str, Any], *headers: tuple[str, str]
) -> Iterable[bytes]:
    body = msgspec.json.encode(value)
    line = f"{status} {HTTPStatus(status).phrase}"
    start_response(line, [("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers])
    return [body]

"""What a process says of itself: `/metrics`, `/healthz`, and background tasks that must not die unseen."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from socketserver import TCPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import msgspec
from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer, choose_encoder

from streaming.monitoring import metrics

Check = Callable[[], str | None]
"""None if all is well, else what is wrong, for a person to read."""

_ALLOWED = "GET, HEAD, OPTIONS"

log = logging.getLogger(__name__)


class PortTakenError(Exception):
    """The port of `/metrics` cannot be listened on; the message names it and the cure."""


def examine(checks: Mapping[str, Check]) -> dict[str, str]:
    """Runs every check; the problems by name, empty if all is well. A check that raises is one."""
    problems = {}
    for name, check in checks.items():
        try:
            problem = check()
        except Exception as error:  # noqa: BLE001 - a broken check is itself what /healthz must show
            problem = f"the check failed: {type(error).__name__}: {error}"
        if problem is not None:
            problems[name] = problem
    return problems


def health_body(checks: Mapping[str, Check], problems: Mapping[str, str]) -> bytes:
    """The JSON that `/healthz` answers: every check by name, `ok` or its problem."""
    return msgspec.json.encode({"healthy": not problems, "checks": {name: problems.get(name, "ok") for name in checks}})


def readable_accept(accept: str) -> str:
    """`accept`, or empty (any format will do) where prometheus-client raises on it: on a version that is no number."""
    try:
        choose_encoder(accept)
    except (TypeError, ValueError):
        return ""
    return accept


class _QuietHandler(WSGIRequestHandler):
    timeout = 10  # seconds: a client that stalls does not hold its thread for ever

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("health server: " + format, *args)


class _Server(ThreadingWSGIServer):
    def server_bind(self) -> None:
        # The base class looks up the host's full name, which can wait for seconds on a machine without DNS.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # The base class prints a traceback for a client that hangs up or stalls: that is no failure of this process.
        if isinstance(sys.exception(), OSError):
            log.debug("health server: %s hung up or stalled", client_address)
        else:
            log.exception("health server: the answer to %s failed", client_address)


class HealthServer:
    """`/metrics` (this process's Prometheus registry) and `/healthz` on threads of their own (docs/decisions/0040).

    For processes that have no web server otherwise. Listens on every address, for Prometheus.
    """

    def __init__(
        self,
        port: int,
        checks: Mapping[str, Check],
        *,
        host: str = "0.0.0.0",
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        """Binds at once: port 0 takes a free one. Raises PortTakenError."""
        self._checks = dict(checks)
        self._metrics = make_wsgi_app(registry)
        try:
            self._server = make_server(host, port, self._answer, server_class=_Server, handler_class=_QuietHandler)
        except OSError as error:
            raise PortTakenError(
                f"cannot listen on {host}:{port} for /metrics: {error.strerror or error}; "
                "end the process that holds the port, or set metrics_port to another (0 takes a free one)"
            ) from error
        self.port: int = self._server.server_address[1]
        """The port it listens on."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="health-server", daemon=True
        )

    def start(self) -> HealthServer:
        """Begins to answer; gives itself back."""
        self._thread.start()
        log.info("metrics and health on port %d", self.port)
        return self

    def stop(self) -> None:
        """Stops answering and frees the port. Harmless when it never started or has stopped."""
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
        answer: Iterable[bytes]
        if path not in ("/metrics", "/healthz"):
            answer = _json(start_response, "404 Not Found", b'{"detail": "there is /metrics and /healthz"}')
        elif method == "OPTIONS":
            start_response("200 OK", [("Allow", _ALLOWED), ("Content-Length", "0")])
            return []
        elif method not in ("GET", "HEAD"):
            answer = _json(start_response, "405 Method Not Allowed", b'{"detail": "ask by GET"}', ("Allow", _ALLOWED))
        elif path == "/metrics":
            accept = readable_accept(environ.get("HTTP_ACCEPT", ""))
            answer = self._metrics({**environ, "REQUEST_METHOD": "GET", "HTTP_ACCEPT": accept}, start_response)
        else:
            problems = examine(self._checks)
            status = "503 Service Unavailable" if problems else "200 OK"
            answer = _json(start_response, status, health_body(self._checks, problems))
        return [] if method == "HEAD" else answer


def _json(start_response: Callable[..., Any], status: str, body: bytes, *headers: tuple[str, str]) -> Iterable[bytes]:
    length = ("Content-Length", str(len(body)))
    start_response(status, [("Content-Type", "application/json"), length, *headers])
    return [body]


def end_this_process() -> None:
    """Asks this process to end in its ordinary way: SIGTERM to itself."""
    os.kill(os.getpid(), signal.SIGTERM)


class Watch:
    """Background tasks of one process: one that dies is counted, logged, and makes the process unhealthy.

    A task dies when it raises, or returns before `stopping()` was called. The first death calls `on_failure`,
    by default SIGTERM to this process: the ordinary shut-down runs, and the process returns `exit_code`.
    """

    def __init__(self, on_failure: Callable[[], None] = end_this_process) -> None:
        self._on_failure = on_failure
        self._lock = threading.Lock()
        self._failures: dict[str, str] = {}
        self._stopping = False

    @property
    def failures(self) -> dict[str, str]:
        """What killed each dead task, by its name."""
        return dict(self._failures)

    @property
    def exit_code(self) -> int:
        """0, or 1 once a task has died."""
        return 1 if self._failures else 0

    def check(self) -> str | None:
        """The check for `/healthz`: names the dead tasks."""
        dead = "; ".join(f"{name}: {cause}" for name, cause in self._failures.items())
        return f"background task died: {dead}" if dead else None

    def stopping(self) -> None:
        """From now on a task may end without being missed."""
        self._stopping = True

    def failed(self, name: str, error: BaseException | None) -> None:
        """Records that task `name` died of `error` (None: returned too early), for tasks run elsewhere."""
        cause = "it ended too early" if error is None else f"{type(error).__name__}: {error}"
        metrics.TASK_FAILURES.labels(task=name).inc()
        log.critical("background task %s died, this process ends: %s", name, cause, exc_info=error)
        with self._lock:
            first = not self._failures
            self._failures.setdefault(name, cause)
        if first:
            self._on_failure()

    def thread(self, name: str, target: Callable[[], object], *, daemon: bool = True) -> threading.Thread:
        """Starts `target` on a watched thread."""

        def run() -> None:
            try:
                target()
            except BaseException as error:  # noqa: BLE001 - whatever kills the thread must be seen
                self.failed(name, error)
            else:
                if not self._stopping:
                    self.failed(name, None)

        thread = threading.Thread(target=run, name=name, daemon=daemon)
        thread.start()
        return thread

    def task(self, name: str, work: Coroutine[Any, Any, object], *, lasting: bool = True) -> asyncio.Task[object]:
        """Starts `work` as a watched task of the running loop. A cancelled task did not die.

        `lasting` False: the task has an end, and only an error is a death.
        """
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(lambda done: self._task_done(name, done, lasting))
        return task

    def _task_done(self, name: str, task: asyncio.Task[object], lasting: bool) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None or (lasting and not self._stopping):
            self.failed(name, error)

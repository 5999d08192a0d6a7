"""The health server and the supervisor over background tasks."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable

import httpx
import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter

from streaming.monitoring.health import HealthServer, examine
from streaming.monitoring.heartbeat import STUCK_S, Heartbeat
from streaming.monitoring.supervisor import TaskSupervisor


def _failures(task: str) -> float:
    return REGISTRY.get_sample_value("driftline_task_failures_total", {"task": task}) or 0.0


def _broken() -> str | None:
    raise RuntimeError("cannot look")


def test_metrics_of_the_registry_are_served() -> None:
    registry = CollectorRegistry()
    Counter("apples_total", "Apples.", registry=registry).inc(3)
    with HealthServer("127.0.0.1", 0, {}, registry=registry) as server:
        answer = httpx.get(f"http://127.0.0.1:{server.port}/metrics")
    assert answer.status_code == 200
    assert "apples_total 3.0" in answer.text


def test_a_scraper_that_accepts_gzip_gets_the_same_text_compressed() -> None:
    registry = CollectorRegistry()
    Counter("apples_total", "Apples.", registry=registry).inc(3)
    with HealthServer("127.0.0.1", 0, {}, registry=registry) as server:
        address = f"http://127.0.0.1:{server.port}/metrics"
        packed, plain = (httpx.get(address, headers={"Accept-Encoding": one}) for one in ("gzip", "identity"))
    assert packed.headers["content-encoding"] == "gzip" and "content-encoding" not in plain.headers
    assert packed.text.split("apples_created")[0] == plain.text.split("apples_created")[0] != ""


def test_health_is_200_while_every_check_passes() -> None:
    with HealthServer("127.0.0.1", 0, {"broker": lambda: None}) as server:
        answer = httpx.get(f"http://127.0.0.1:{server.port}/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"healthy": True, "checks": {"broker": "ok"}}


def test_health_is_503_and_lists_failing_checks() -> None:
    checks: dict[str, Callable[[], str | None]] = {
        "broker": lambda: "gone",
        "store": lambda: None,
        "odd": _broken,
    }
    with HealthServer("127.0.0.1", 0, checks) as server:
        answer = httpx.get(f"http://127.0.0.1:{server.port}/healthz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["broker"] == "gone"
    assert answer.json()["checks"]["store"] == "ok"
    assert "cannot look" in answer.json()["checks"]["odd"]


def test_readiness_is_served_if_configured_and_lists_what_is_missing() -> None:
    missing: dict[str, str] = {"kernels": "not read yet"}
    with HealthServer("127.0.0.1", 0, {}, missing=lambda: missing) as server:
        address = f"http://127.0.0.1:{server.port}/readyz"
        waiting = httpx.get(address)
        missing.clear()
        ready = httpx.get(address)
    assert (waiting.status_code, waiting.json()["missing"]) == (503, {"kernels": "not read yet"})
    assert (ready.status_code, ready.json()["ready"]) == (200, True)
    with HealthServer("127.0.0.1", 0, {}) as server:
        assert httpx.get(f"http://127.0.0.1:{server.port}/readyz").status_code == 404


async def test_a_blocked_event_loop_is_unhealthy_and_recovers_when_it_runs_again() -> None:
    now = 0.0
    heartbeat = Heartbeat(lambda: now)
    assert heartbeat.check() is None
    beating = asyncio.create_task(heartbeat.run())
    with HealthServer("127.0.0.1", 0, {"event loop": heartbeat.check}) as server:
        address = f"http://127.0.0.1:{server.port}/healthz"
        await asyncio.sleep(0)
        now = STUCK_S + 1  # the loop is held up here: nothing below gives it a turn
        stuck = httpx.get(address)  # noqa: ASYNC210 - the loop is to be blocked
        beating.cancel()
        beating = asyncio.create_task(heartbeat.run())
        await asyncio.sleep(0)
        well = httpx.get(address)  # noqa: ASYNC210
    beating.cancel()
    assert (stuck.status_code, well.status_code) == (503, 200)
    assert "not turned for 11 s" in stuck.json()["checks"]["event loop"]


def test_half_sent_requests_hold_a_bounded_number_of_threads() -> None:
    before = threading.active_count()
    with HealthServer("127.0.0.1", 0, {}) as server:
        held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
        for one in held:
            one.sendall(b"GET /hea")
        most = 0
        for _ in range(50):
            most = max(most, threading.active_count())
            time.sleep(0.01)
        for one in held:
            one.close()
    assert most - before <= 40


@pytest.mark.parametrize("path", ["/healthz", "/metrics"])
def test_head_gives_the_head_of_get_without_a_body(path: str) -> None:
    with HealthServer("127.0.0.1", 0, {}) as server, httpx.Client(trust_env=False) as client:
        head, get = (client.request(method, f"http://127.0.0.1:{server.port}{path}") for method in ("HEAD", "GET"))
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


def test_an_unparsable_accept_header_gets_the_plain_format() -> None:
    with HealthServer("127.0.0.1", 0, {}) as server:
        headers = {"Accept": "application/openmetrics-text;version=x"}
        answer = httpx.get(f"http://127.0.0.1:{server.port}/metrics", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")


def test_head_of_an_unhealthy_process_is_503() -> None:
    with HealthServer("127.0.0.1", 0, {"broker": lambda: "gone"}) as server:
        assert httpx.head(f"http://127.0.0.1:{server.port}/healthz").status_code == 503


@pytest.mark.parametrize("path", ["/healthz", "/metrics"])
def test_options_lists_the_methods_and_others_are_refused(path: str) -> None:
    with HealthServer("127.0.0.1", 0, {}) as server:
        options = httpx.options(f"http://127.0.0.1:{server.port}{path}")
        post = httpx.post(f"http://127.0.0.1:{server.port}{path}", content=b"x")
    assert (options.status_code, options.headers["allow"]) == (200, "GET, HEAD, OPTIONS")
    assert (post.status_code, post.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_a_client_that_hangs_up_leaves_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with HealthServer("127.0.0.1", 0, {}) as server:
        for sent in (b"", b"GET /hea", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closes by a reset
                client.sendall(sent)
        assert httpx.get(f"http://127.0.0.1:{server.port}/healthz").status_code == 200
    assert "Traceback" not in capfd.readouterr().err


def test_an_unknown_path_lists_the_known_paths() -> None:
    with HealthServer("127.0.0.1", 0, {}) as server:
        answer = httpx.get(f"http://127.0.0.1:{server.port}/nothing")
    assert answer.status_code == 404
    assert "/metrics" in answer.json()["detail"]


def test_a_stopped_server_frees_its_port() -> None:
    server = HealthServer("127.0.0.1", 0, {}).start()
    server.stop()
    server.stop()
    HealthServer("127.0.0.1", server.port, {}).stop()


def test_a_check_that_raises_counts_as_failing() -> None:
    assert "RuntimeError" in examine({"odd": _broken})["odd"]


def test_a_thread_that_raises_is_counted_unhealthy_and_ends_the_process() -> None:
    ended = threading.Event()
    supervisor = TaskSupervisor(ended.set)
    before = _failures("unlucky")
    supervisor.thread("unlucky", _broken).join()
    assert ended.is_set()
    assert _failures("unlucky") == before + 1
    assert "unlucky: RuntimeError: cannot look" in (supervisor.check() or "")
    assert supervisor.exit_code == 1


def test_a_thread_that_returns_too_early_counts_as_dead() -> None:
    supervisor = TaskSupervisor(lambda: None)
    supervisor.thread("short", lambda: None).join()
    assert "ended too early" in (supervisor.check() or "")


def test_a_thread_that_ends_after_stopping_is_not_reported() -> None:
    supervisor = TaskSupervisor(lambda: None)
    go = threading.Event()
    thread = supervisor.thread("polite", go.wait)
    supervisor.stopping()
    go.set()
    thread.join()
    assert supervisor.check() is None
    assert supervisor.exit_code == 0


def test_only_the_first_dead_thread_stops_the_process() -> None:
    asked: list[int] = []
    supervisor = TaskSupervisor(lambda: asked.append(1))
    for name in ("one", "two"):
        supervisor.thread(name, _broken).join()
    assert asked == [1]
    assert set(supervisor.failures) == {"one", "two"}


async def test_an_asyncio_task_that_raises_is_reported() -> None:
    supervisor = TaskSupervisor(lambda: None)

    async def unlucky() -> None:
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"):
        await supervisor.task("task", unlucky())
    await asyncio.sleep(0)
    assert "task: ValueError: no luck" in (supervisor.check() or "")


async def test_a_cancelled_asyncio_task_is_not_reported_as_dead() -> None:
    supervisor = TaskSupervisor(lambda: None)
    task = supervisor.task("task", asyncio.sleep(60))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert supervisor.check() is None


async def test_a_finite_asyncio_task_may_end() -> None:
    supervisor = TaskSupervisor(lambda: None)
    await supervisor.task("start", asyncio.sleep(0), lasting=False)
    await asyncio.sleep(0)
    assert supervisor.check() is None

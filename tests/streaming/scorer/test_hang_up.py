"""Clients that leave in the middle, on a real server and real sockets: nothing has failed, and the log stays quiet."""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Callable, Iterator

import httpx
import msgspec
import pytest
from prometheus_client import REGISTRY

from tests.streaming.scorer.scoring_parts import serving

pytestmark = pytest.mark.slow

BODY = msgspec.json.encode({"user_id": "u", "candidates": ["a", "b"], "domain": {"scene": "home", "period": "day"}})
CLIENTS = 20


@pytest.fixture
def port() -> Iterator[int]:
    with serving() as port:
        yield port


def _counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("driftline_score_requests_total", {"outcome": outcome}) or 0.0


def _eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


def _leave(port: int, path: str, sent: bytes, length: int, *, reset: bool) -> None:
    """Sends the head and `sent` of a body of `length` bytes, then closes, by a reset if `reset`."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port)) as client:
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(head + sent)


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_disconnects_before_its_body_is_complete_causes_no_error_and_no_log_line(
    port: int, caplog: pytest.LogCaptureFixture, reset: bool
) -> None:
    aborted, others = _counted("aborted"), [_counted(name) for name in ("ok", "refused", "failed")]
    with caplog.at_level(logging.INFO):
        for _ in range(CLIENTS):
            _leave(port, "/v1/score", b"{", 500, reset=reset)
            _leave(port, "/v1/events", b"{", 500, reset=reset)
        _eventually(lambda: _counted("aborted") == aborted + CLIENTS)
    assert [_counted(name) for name in ("ok", "refused", "failed")] == others
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert [record.name for record in caplog.records if record.name.startswith("streaming")] == []


def test_a_client_that_does_not_wait_for_its_response_causes_no_error(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    ok, others = _counted("ok"), [_counted(name) for name in ("aborted", "refused", "failed")]
    with caplog.at_level(logging.INFO):
        for _ in range(CLIENTS):
            _leave(port, "/v1/score", BODY, len(BODY), reset=False)
        _eventually(lambda: _counted("ok") == ok + CLIENTS)
    assert [_counted(name) for name in ("aborted", "refused", "failed")] == others
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("path", ["/v1/score", "/v1/events"])
def test_a_client_that_requests_http_2_is_served_or_asked_for_http_1(port: int, path: str) -> None:
    body = {"/v1/score": BODY, "/v1/events": b'{"event":"user","user_id":"u","time":1}'}[path]
    headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA"}
    answer = httpx.post(f"http://127.0.0.1:{port}{path}", content=body, headers=headers, trust_env=False)
    explained = answer.status_code == 400 and answer.json()["error"] == "unsupported_upgrade"
    assert answer.is_success or (explained and "HTTP_1_1" in answer.json()["detail"])


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/v1/kernels"])
def test_head_gives_the_head_of_get_and_no_body_on_the_wire(port: int, path: str) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        head, get = client.head(path), client.get(path)
        assert client.get(path).status_code == 200  # a body behind the head would be read as the next answer
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]

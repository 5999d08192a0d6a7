"""Clients that keep the scorer waiting, on a real server and real sockets: it stays open for the others."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx
import msgspec
import pytest
import uvicorn
from prometheus_client import REGISTRY
from uvicorn.server import ServerState

from streaming.config import AccessConfig, Config
from streaming.scorer.app import make_app
from streaming.scorer.connections import BoundedProtocol, Connections
from tests.streaming.scorer.scoring_parts import FakeBackend, serving

BODY = msgspec.json.encode({"user_id": "u", "candidates": ["a", "b"], "domain": {"scene": "home", "period": "day"}})
HEAD = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
HALF: dict[str, bytes] = {
    "nothing": b"",
    "part of a line": b"POST /v1/sc",
    "part of a head": b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Le",
    "a head without its body": HEAD,
    "part of a body": HEAD + BODY[:10],
}


def _bounded(**access: Any) -> Config:
    return Config.model_validate({"access": access})


def _dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("driftline_connections_dropped_total", {"reason": reason}) or 0.0


def _connect(port: int, sent: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.sendall(sent)
    return client


async def _answer_to(port: int, head: bytes, body: bytes) -> bytes:
    """The answer to a request whose body is sent some time after its head, read after all is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    await asyncio.sleep(0.2)
    for begin in range(0, len(body), 65_536):
        writer.write(body[begin : begin + 65_536])
        await writer.drain()
        await asyncio.sleep(0.01)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    "head", [b"POST /v1/score HTTP/1.1\r\nHost: x\r\nAccept: \x7f\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000]
)
def test_a_client_that_still_sends_gets_the_answer_that_its_request_is_invalid(head: bytes) -> None:
    with serving(Config()) as port:
        answer = asyncio.run(_answer_to(port, head, b"y" * 1_000_000))
        assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_long_head_that_becomes_invalid_is_refused_and_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    before = [_dropped(reason) for reason in ("no_http", "head_too_large", "too_slow")]
    with serving(_bounded(request_timeout_s=1)) as port:
        with _connect(port, b"GET /healthz HTTP/1.1\r\nX: 1\r\n") as client:
            time.sleep(0.2)
            client.sendall(b"Y: " + b"y" * 70_000 + b"\x00\r\n")
            assert client.recv(12) == b"HTTP/1.1 400"
            while client.recv(65_536):
                pass  # the answer ends; the connection stays open until the time-out
            time.sleep(1.5)
        after = [_dropped(reason) for reason in ("no_http", "head_too_large", "too_slow")]
    assert sum(after) == sum(before) + 1 and after[2] == before[2]
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def _eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert true()


def _ended(client: socket.socket) -> bool:
    """Waits for the server to close; False if an answer comes instead."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


@contextmanager
def _held(port: int, sent: bytes, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(_connect(port, sent)) for _ in range(count)]


@pytest.mark.parametrize("case", HALF)
def test_many_incomplete_requests_do_not_block_others(case: str) -> None:
    before = _dropped("too_many")
    with serving(_bounded(max_connections=50, request_timeout_s=600)) as port, _held(port, HALF[case], 300):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            assert client.get("/healthz").status_code == 200
            assert client.post("/v1/score", content=BODY).status_code == 200
        assert _dropped("too_many") - before >= 250


@pytest.mark.parametrize("case", HALF)
def test_an_incomplete_request_is_closed_after_the_timeout(case: str) -> None:
    with serving(_bounded(request_timeout_s=0.2)) as port, _connect(port, HALF[case]) as client:
        assert _ended(client)


def test_a_slowly_arriving_request_is_closed_after_the_timeout() -> None:
    with serving(_bounded(request_timeout_s=0.3)) as port, _connect(port, b"GET /healthz HTTP/1.1\r\n") as client:

        def dripping() -> bool:
            try:
                client.sendall(b"X-A: b\r\n")
            except OSError:
                return True
            return False

        _eventually(dripping)


def test_the_second_request_of_a_connection_has_the_same_timeout() -> None:
    with serving(_bounded(request_timeout_s=0.3)) as port, _connect(port, HEAD + BODY) as client:
        assert client.recv(12) == b"HTTP/1.1 200"
        while client.recv(65_536)[-1:] != b"}":
            pass
        client.sendall(HEAD)
        assert _ended(client)


def test_a_connection_with_a_request_in_progress_is_never_evicted() -> None:
    with serving(_bounded(max_connections=2)) as port, httpx.Client(trust_env=False) as client:
        before = _dropped("too_many")
        answers = [client.post(f"http://127.0.0.1:{port}/v1/score", content=BODY).status_code for _ in range(5)]
        with _held(port, b"", 10):
            _eventually(lambda: _dropped("too_many") - before >= 9)
            answers.append(client.post(f"http://127.0.0.1:{port}/v1/score", content=BODY).status_code)
    assert answers == [200] * 6


def test_a_client_that_does_not_read_responses_is_closed() -> None:
    before = _dropped("too_slow")
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with serving(_bounded(request_timeout_s=0.3)) as port, _connect(port) as client:
        client.settimeout(0.05)
        for _ in range(2_000):
            try:
                client.sendall(ask)
            except OSError:
                break
        _eventually(lambda: _dropped("too_slow") > before)


class AbortableTransport(asyncio.Transport):
    """A connection of which only the end counts."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Takes it, as if a client had read it."""

    def pause_reading(self) -> None:
        """Nothing is read from it anyway."""

    def abort(self) -> None:
        self.aborted.set()

    def is_closing(self) -> bool:
        return self.aborted.is_set()

    def close(self) -> None:
        """It is closed by the test that made it."""


@contextmanager
def _connected(request_timeout_s: float) -> Iterator[tuple[BoundedProtocol, AbortableTransport]]:
    """A protocol as uvicorn creates it, on a connection that the test controls."""
    config = uvicorn.Config(make_app(FakeBackend()), log_config=None)
    config.load()
    connections, transport = Connections(AccessConfig(request_timeout_s=request_timeout_s)), AbortableTransport()
    protocol = connections.protocol(config=config, server_state=ServerState(), app_state={})
    protocol.connection_made(transport)
    try:
        yield protocol, transport
    finally:
        protocol.connection_lost(None)


async def test_reading_a_response_does_not_extend_the_timeout_of_the_next_request() -> None:
    with _connected(request_timeout_s=0.05) as (protocol, transport):
        protocol.data_received(HEAD[:20])
        protocol.pause_writing()
        protocol.resume_writing()
        await asyncio.wait_for(transport.aborted.wait(), 60)


async def test_sending_requests_without_reading_responses_does_not_extend_the_timeout() -> None:
    with _connected(request_timeout_s=0.05) as (protocol, transport):
        protocol.pause_writing()
        for _ in range(3):
            protocol.data_received(HEAD + BODY)
        await asyncio.wait_for(transport.aborted.wait(), 60)


def test_an_endless_request_head_is_refused() -> None:
    before = _dropped("head_too_large")
    with serving() as port, _connect(port, b"GET /healthz HTTP/1.1\r\n") as client:
        with suppress(OSError):
            for _ in range(100_000):
                client.sendall(b"X-A: " + b"b" * 1_000 + b"\r\n")
        _eventually(lambda: _dropped("head_too_large") == before + 1)


def test_bytes_that_are_not_http_are_counted_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    before = _dropped("no_http")
    with serving() as port:
        for _ in range(20):
            with _connect(port, b"\x16\x03\x01 hello\r\n\r\n") as client:
                assert client.recv(12) == b"HTTP/1.1 400"
    assert _dropped("no_http") == before + 20
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []


def test_a_large_body_in_pieces_arrives_whole() -> None:
    body = msgspec.json.encode({"user_id": "u", "candidates": ["x" * 500] * 1_000 + ["a"] * 40, "domain": {}})
    backend = FakeBackend()
    backend.max_body_bytes = 4 * 1024 * 1024
    with serving(backend=backend) as port:
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/score", content=body, trust_env=False)
    assert answer.json()["error"] == "too_many_candidates"

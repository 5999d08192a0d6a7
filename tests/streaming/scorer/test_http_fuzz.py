"""Whatever is sent to the HTTP interface, it never fails: no 5xx, no traceback, the next caller is served."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streaming.config import Config
from streaming.scorer.access import key_hash, new_key
from tests.streaming.scorer.scoring_parts import FakeBackend, asgi_client, serving

KEY = new_key()
EVERY = ["score", "feedback", "impression", "profile", "drift", "operator"]
KEYED = Config.model_validate({"access": {"keys": [{"name": "all", "hash": key_hash(KEY), "may": EVERY}]}})
GOOD = msgspec.json.encode({"user_id": "u", "candidates": ["a"], "domain": {"scene": "home", "period": "day"}})

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)
names = st.sampled_from(
    ["event", "request_id", "item_id", "user_id", "items", "time", "domain", "candidates", "fields"]
)
words = st.sampled_from(["feedback", "impression", "item", "user", "drift", "main.1", "a", "", "home"])
near_misses = st.dictionaries(names, words | json_values, max_size=8)
bodies = st.one_of(
    st.binary(max_size=400),
    json_values.map(msgspec.json.encode),
    near_misses.map(msgspec.json.encode),
    st.lists(near_misses, max_size=4).map(msgspec.json.encode),
    st.integers(1, 4_000).map(lambda depth: b"[" * depth),
    st.integers(1, 900).map(lambda depth: b'{"a":' * depth + b"1" + b"}" * depth),
    st.binary(max_size=200).map(gzip.compress),
    near_misses.map(msgspec.json.encode).map(gzip.compress),
)
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)
headers = st.dictionaries(
    st.sampled_from([
        "content-type", "content-encoding", "transfer-encoding", "authorization", "accept", "origin", "expect",
        "content-length", "upgrade", "x-forwarded-for", "host",
    ]),
    printable | st.sampled_from(["gzip", "gzip, gzip", "identity", "-1", "9" * 30, f"Bearer {KEY}", "Bearer ", "h2c"]),
    max_size=4,
)  # fmt: skip
paths = st.sampled_from(["/v1/score", "/v1/events"])


class Unbroken(FakeBackend):
    """A backend that nothing is wrong with: what fails is the interface."""

    async def write_events(self, events: list[Any]) -> None:
        pass


async def _ask(config: Config, path: str, body: bytes, sent: dict[str, str]) -> httpx.Response:
    async with asgi_client(BACKENDS[id(config)]) as client:
        return await client.post(path, content=body, headers=sent)


OPEN = Config()
BACKENDS = {id(config): Unbroken(config) for config in (OPEN, KEYED)}


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(path=paths, body=bodies, sent=headers, keyed=st.booleans(), with_key=st.booleans())
def test_no_body_and_no_header_causes_a_5xx_response(
    path: str, body: bytes, sent: dict[str, str], keyed: bool, with_key: bool
) -> None:
    own = {"authorization": f"Bearer {KEY}"} if with_key else {}
    answer = asyncio.run(_ask(KEYED if keyed else OPEN, path, body, {**sent, **own}))
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert set(answer.json()) == {"error", "detail"}
    if keyed and not with_key and sent.get("authorization", "").split(" ")[-1] != KEY:
        assert answer.status_code == 401


@pytest.mark.parametrize("depth", [500, 1_000, 10_000, 400_000])
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"fields":{"a":['])
@pytest.mark.parametrize("path", ["/v1/score", "/v1/events"])
async def test_nesting_of_any_depth_is_a_client_error(path: str, opening: bytes, depth: int) -> None:
    backend = Unbroken()
    backend.max_body_bytes = 8 * 1024 * 1024
    async with asgi_client(backend) as client:
        answer = await client.post(path, content=opening * depth)
    assert 400 <= answer.status_code < 500


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(KEYED, Unbroken(KEYED)) as port:
        yield port


raw_lines = st.lists(
    st.sampled_from([
        b"GET / HTTP/1.1", b"POST /v1/score HTTP/1.1", b"POST /v1/events HTTP/1.0", b"Host: x", b"Content-Length: 5",
        b"Content-Length: -5", b"Transfer-Encoding: chunked", b"5", b"zz", b"", b"Upgrade: websocket",
        b"Connection: Upgrade", b"GET /%ff%00 HTTP/1.1", b"PRI * HTTP/2.0", b"Expect: 100-continue",
    ]) | st.binary(max_size=40),
    max_size=12,
)  # fmt: skip


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(lines=raw_lines)
def test_no_bytes_on_the_wire_make_the_server_fail(
    port: int, lines: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while part := client.recv(65_536):
                answer += part
        except ConnectionResetError:
            pass
    assert b"HTTP/1.1 5" not in answer
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_after_the_fuzzing_the_next_request_is_served(port: int) -> None:
    answer = httpx.post(
        f"http://127.0.0.1:{port}/v1/score", content=GOOD, headers={"Authorization": f"Bearer {KEY}"}, trust_env=False
    )
    assert answer.status_code == 200

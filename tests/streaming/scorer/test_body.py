"""The body of a request: what is no JSON, what is encoded, what is too long, at every entry point that takes one."""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from tests.streaming.scorer.scoring_parts import FakeBackend, asgi_client

DOORS = ("/v1/score", "/v1/events")
SCORE = {"user_id": "u", "candidates": ["a", "b"], "domain": {"scene": "home", "period": "day"}}
CLICK = {"event": "feedback", "request_id": "main.1", "item_id": "a", "time": 1.0}
GOOD = {"/v1/score": (msgspec.json.encode(SCORE), 200), "/v1/events": (msgspec.json.encode(CLICK), 202)}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    backend = FakeBackend()
    backend.max_body_bytes = 150_000
    async with asgi_client(backend) as client:
        yield client


USER_ID = {"/v1/score": b'{"user_id":', "/v1/events": b'{"event":"user","user_id":'}
UNREADABLE = {
    "half a surrogate pair": (b'"\\ud800 and more"}', "surrogate"),
    "cut short": (b'"u"', "truncated"),
    "NaN": (b"NaN}", "malformed"),
    "no value": (b"}", "malformed"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", UNREADABLE)
async def test_invalid_json_is_refused_with_its_cause_and_without_a_log_line(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, door: str, case: str
) -> None:
    rest, cause = UNREADABLE[case]
    with caplog.at_level(logging.INFO, logger="streaming"):
        answer = await client.post(door, content=USER_ID[door] + rest)
    assert (answer.status_code, answer.json()["error"]) == (422, "malformed_json")
    assert cause in answer.json()["detail"]
    assert not caplog.records


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("bad", [b"\xfc", b"\xed\xa0\x80", b"\xff\xfe"])
async def test_a_body_that_is_not_utf_8_is_refused_with_the_byte_position(
    client: httpx.AsyncClient, door: str, bad: bytes
) -> None:
    for body in (USER_ID[door] + b'"J' + bad + b'rgen"}', USER_ID[door] + b'"u","' + bad + b'":1}'):
        answer = await client.post(door, content=body)
        assert (answer.status_code, answer.json()["error"]) == (422, "malformed_json")
        assert f"not UTF-8: byte {body.index(bad)} is 0x{bad[0]:02x}" in answer.json()["detail"]


WHOLLY_UNREADABLE = {
    "nothing": (b"", "empty"),
    "UTF-16": ('{"user_id":"u"}'.encode("utf-16"), "not UTF-8: byte 0 is 0xff"),
    "a form": (b"user_id=u&candidates=a", "malformed"),
    "blank": (b" \n ", "truncated"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", WHOLLY_UNREADABLE)
async def test_arbitrary_bytes_are_refused_with_the_cause(client: httpx.AsyncClient, door: str, case: str) -> None:
    body, cause = WHOLLY_UNREADABLE[case]
    answer = await client.post(door, content=body)
    assert (answer.status_code, answer.json()["error"]) == (422, "malformed_json")
    assert cause in answer.json()["detail"]


async def test_nesting_beyond_the_parser_is_refused(client: httpx.AsyncClient) -> None:
    for body in (b'{"fields":' + b"[" * 100_000, b'{"fields":' + b'{"a":' * 20_000):
        answer = await client.post("/v1/events", content=body)
        assert (answer.status_code, answer.json()["error"]) == (422, "malformed_json")
        assert "nested too deep" in answer.json()["detail"]


INVALID = {"/v1/score": "invalid_request", "/v1/events": "invalid_event"}
MISSHAPEN = {
    "nesting": b"[" * 100_000,
    "nesting under a known key": b'{"event":"user","user_id":' + b"[" * 100_000,
    "null": b"null",
    "a number beyond double precision": b'{"event":"user","user_id":"u","time":1e999}',
    "a number of four hundred digits": b'{"event":"user","user_id":"u","time":1' + b"0" * 400 + b"}",
    "a count of six thousand digits": b'{"user_id":"u","candidates":["a"],"top_k":1' + b"0" * 6_000 + b"}",
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", MISSHAPEN)
async def test_json_of_another_shape_is_refused(client: httpx.AsyncClient, door: str, case: str) -> None:
    answer = await client.post(door, content=MISSHAPEN[case])
    assert (answer.status_code, answer.json()["error"]) == (422, INVALID[door])


async def test_a_count_beyond_every_list_returns_the_whole_list(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/score", json={**SCORE, "top_k": 10**30})
    assert len(answer.json()["scores"]) == 2


@pytest.mark.parametrize("door", DOORS)
async def test_gzip_without_its_header_is_refused_with_the_header_name(client: httpx.AsyncClient, door: str) -> None:
    answer = await client.post(door, content=gzip.compress(GOOD[door][0]))
    assert (answer.status_code, answer.json()["error"]) == (422, "malformed_json")
    assert "send it with Content-Encoding: gzip" in answer.json()["detail"]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("half", [b'"\\ud800"}', b'"\\ud800', b'"u\\udbff"}'])
async def test_a_lone_surrogate_at_the_end_is_reported_as_such(
    client: httpx.AsyncClient, door: str, half: bytes
) -> None:
    answer = await client.post(door, content=USER_ID[door] + half)
    assert (answer.status_code, answer.json()["error"]) == (422, "malformed_json")
    assert "half a surrogate pair" in answer.json()["detail"]


@pytest.mark.parametrize("door", DOORS)
async def test_a_gzip_transfer_encoding_is_refused_with_content_encoding_as_the_remedy(
    client: httpx.AsyncClient, door: str
) -> None:
    body, headers = gzip.compress(GOOD[door][0]), {"Transfer-Encoding": "gzip, chunked"}
    answer = await client.post(door, content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (415, "unsupported_encoding")
    assert "Transfer-Encoding 'gzip'" in answer.json()["detail"]
    assert "Content-Encoding, as gzip" in answer.json()["detail"]


@pytest.mark.parametrize("door", DOORS)
async def test_the_name_of_an_encoding_is_shortened_in_the_error(client: httpx.AsyncClient, door: str) -> None:
    answer = await client.post(door, content=b"{}", headers={"Content-Encoding": "q" * 20_000})
    assert answer.status_code == 415
    assert len(answer.content) < 300


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", None])
async def test_json_is_read_whatever_its_content_type(
    client: httpx.AsyncClient, door: str, content_type: str | None
) -> None:
    body, status = GOOD[door]
    answer = await client.post(door, content=body, headers={"Content-Type": content_type} if content_type else {})
    assert answer.status_code == status


@pytest.mark.parametrize("door", DOORS)
async def test_a_byte_order_mark_is_ignored(client: httpx.AsyncClient, door: str) -> None:
    body, status = GOOD[door]
    assert (await client.post(door, content=b"\xef\xbb\xbf" + body)).status_code == status


async def test_the_last_value_of_a_duplicate_key_counts(client: httpx.AsyncClient) -> None:
    body = b'{"user_id":"u","candidates":["a","b"],"candidates":["c"],"domain":{"period":"day"}}'
    answer = await client.post("/v1/score", content=body)
    assert [score["item_id"] for score in answer.json()["scores"]] == ["c"]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", "identity, gzip"])
async def test_a_gzipped_body_is_decoded(client: httpx.AsyncClient, door: str, coding: str) -> None:
    body, status = GOOD[door]
    answer = await client.post(door, content=gzip.compress(body), headers={"Content-Encoding": coding})
    assert answer.status_code == status


@pytest.mark.parametrize("door", DOORS)
async def test_a_gzipped_body_may_arrive_in_chunks_of_any_size(client: httpx.AsyncClient, door: str) -> None:
    body, status = GOOD[door]

    async def bytewise() -> AsyncIterator[bytes]:
        for byte in gzip.compress(body):
            yield bytes([byte])

    answer = await client.post(door, content=bytewise(), headers={"Content-Encoding": "gzip"})
    assert answer.status_code == status


@pytest.mark.parametrize("door", DOORS)
async def test_the_identity_encoding_is_accepted(client: httpx.AsyncClient, door: str) -> None:
    body, status = GOOD[door]
    assert (await client.post(door, content=body, headers={"Content-Encoding": "identity"})).status_code == status


@pytest.mark.parametrize("door", DOORS)
async def test_a_small_body_that_decodes_to_a_large_one_is_refused(client: httpx.AsyncClient, door: str) -> None:
    bomb = gzip.compress(b" " * 2_000_000)
    assert len(bomb) < 150_000 / 50
    answer = await client.post(door, content=bomb, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]) == (413, "body_too_large")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("coding", ["deflate", "br", "zstd", "gzip, gzip", "made-up"])
async def test_another_encoding_is_refused_with_the_supported_one(
    client: httpx.AsyncClient, door: str, coding: str
) -> None:
    answer = await client.post(door, content=GOOD[door][0], headers={"Content-Encoding": coding})
    assert (answer.status_code, answer.json()["error"]) == (415, "unsupported_encoding")
    assert coding in answer.json()["detail"]
    assert answer.headers["accept-encoding"] == "gzip"


_WHOLE = gzip.compress(GOOD["/v1/score"][0])
BAD_GZIP = {
    "plain JSON": GOOD["/v1/score"][0],
    "nothing": b"",
    "a zlib stream": zlib.compress(b"{}"),
    "cut short": _WHOLE[:-9],
    "a wrong checksum": _WHOLE[:-8] + bytes(4) + _WHOLE[-4:],
    "something behind it": _WHOLE + b"{}",
    "a second member": _WHOLE + gzip.compress(b""),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", BAD_GZIP)
async def test_a_truncated_gzip_stream_is_refused(client: httpx.AsyncClient, door: str, case: str) -> None:
    answer = await client.post(door, content=BAD_GZIP[case], headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]) == (400, "malformed_gzip")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("length", ["150001", "9" * 5_000])
async def test_a_declared_length_over_the_limit_is_refused_before_the_body_is_read(
    client: httpx.AsyncClient, door: str, length: str
) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    answer = await client.post(door, content=nothing(), headers={"Content-Length": length})
    assert (answer.status_code, answer.json()["error"]) == (413, "body_too_large")

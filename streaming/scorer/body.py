"""Reads and decodes the body of a request. Every fault of a body is the caller's, so it is refused with 4xx."""

from __future__ import annotations

import zlib
from reprlib import repr as shortened
from typing import Protocol, TypeVar

import msgspec
from fastapi import Request

from streaming.events.outside import BOM, json_fault
from streaming.scorer.schema import RequestRefused

T = TypeVar("T")

_GZIP = 16 + zlib.MAX_WBITS  # tells zlib to expect a gzip header and trailer
_LENGTH_DIGITS = 18  # more than any limit needs; int() raises for some thousand digits
# The server's parser drops the body of a request that asks for a protocol upgrade, as Java's client does.
_UPGRADE = (
    "the request asks to upgrade the protocol and brings no body: HTTP/1.1 alone is spoken here, send it without the "
    "Upgrade header (in Java: HttpClient.Version.HTTP_1_1)"
)
_GZIP_MAGIC = b"\x1f\x8b"


class _Reader(Protocol):
    def read(self, part: bytes) -> bytes: ...
    def end(self) -> None: ...


class _Plain:
    def read(self, part: bytes) -> bytes:
        return part

    def end(self) -> None:
        pass


class _Gunzip:
    """Decodes one gzip member, to at most one byte more than `limit`, so that a gzip bomb is stopped early."""

    def __init__(self, limit: int) -> None:
        self._stream = zlib.decompressobj(_GZIP)
        self._room = limit + 1

    def read(self, part: bytes) -> bytes:
        if not self._room:
            return b""
        try:
            decoded = self._stream.decompress(part, self._room)
        except zlib.error as error:
            raise RequestRefused("malformed_gzip", f"the body is no gzip stream: {error}", 400) from None
        self._room -= len(decoded)
        # A second member is refused: a megabyte could hold fifty thousand empty ones, each with its own set-up.
        if self._stream.unused_data:
            raise RequestRefused("malformed_gzip", "something follows the end of the gzip stream", 400)
        return decoded

    def end(self) -> None:
        if not self._stream.eof:
            raise RequestRefused("malformed_gzip", "the gzip stream is cut short: send the body whole", 400)


def _codings(request: Request, header: str, *, none: str) -> list[str]:
    """The codings that `header` names, in lower case, without `none`, the header's word for no coding."""
    named = ",".join(request.headers.getlist(header)).lower()
    return [coding for part in named.split(",") if (coding := part.strip()) not in ("", none)]


def _reader(request: Request, limit: int) -> _Reader:
    """What undoes the encoding of the body. Raises RequestRefused for encodings that are not supported."""
    # The server decodes chunks only, and passes on a body that was encoded before it was cut into chunks.
    if transfer := _codings(request, "transfer-encoding", none="chunked"):
        raise RequestRefused(
            "unsupported_encoding",
            f"Transfer-Encoding {_shown(transfer)} is not undone: name the encoding by Content-Encoding, as gzip",
            415,
        )
    codings = _codings(request, "content-encoding", none="identity")
    if not codings:
        return _Plain()
    if codings in (["gzip"], ["x-gzip"]):
        return _Gunzip(limit)
    raise RequestRefused(
        "unsupported_encoding",
        f"Content-Encoding {_shown(codings)} is not read: send the body plain, or as gzip",
        415,
    )


def _shown(codings: list[str]) -> str:
    return shortened(", ".join(codings))


async def read_body(request: Request, limit: int) -> bytes:
    """The decoded body, at most `limit` bytes on the wire and decoded.

    Raises RequestRefused (413) as soon as the body is known to be longer, RequestRefused (400, 415) for an encoding
    that cannot be decoded, starlette's ClientDisconnect if the client disconnects before the end.
    """
    reader = _reader(request, limit)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > _LENGTH_DIGITS or int(declared) > limit):
        raise _too_large(limit)
    parts, received, size = [], 0, 0
    async for part in request.stream():
        decoded = reader.read(part)
        parts.append(decoded)
        received, size = received + len(part), size + len(decoded)
        if max(received, size) > limit:
            raise _too_large(limit)
    reader.end()
    if not received and "upgrade" in request.headers:
        raise RequestRefused("unsupported_upgrade", _UPGRADE, 400)
    return b"".join(parts)


def _too_large(limit: int) -> RequestRefused:
    return RequestRefused(
        "body_too_large", f"the body exceeds {limit} bytes: send less, or raise scorer.max_body_bytes", 413
    )


def decode_json(decoder: msgspec.json.Decoder[T], body: bytes, invalid: str) -> T:
    """The value in `body`; the Content-Type does not matter (docs/decisions/0087).

    Raises RequestRefused: `invalid` for JSON of the wrong shape, `malformed_json` for anything that is no JSON.
    """
    try:
        return decoder.decode(body.removeprefix(BOM))
    except msgspec.ValidationError as error:
        raise RequestRefused(invalid, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestRefused("malformed_json", _cause(body, error)) from None
    except RecursionError:
        raise RequestRefused("malformed_json", "the JSON is nested too deep") from None


def _cause(body: bytes, error: Exception) -> str:
    """Why a body cannot be read as JSON, with the cure if its first bytes show one."""
    if not body:
        return "the body is empty: send JSON"
    if body.startswith(_GZIP_MAGIC):
        return "the body is gzip, but its Content-Encoding does not say so: send it with Content-Encoding: gzip"
    try:
        body.decode()
    except UnicodeDecodeError as fault:
        return f"the body is not UTF-8: byte {fault.start} is 0x{body[fault.start]:02x}; JSON is sent in UTF-8"
    return json_fault(error)

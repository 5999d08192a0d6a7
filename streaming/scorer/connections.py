"""Connections to the HTTP interface: bounded in number, in the size of a head, and in how long they keep it waiting.

uvicorn bounds none of the three for a request that never becomes whole: it has a time-out between requests and a limit
that answers 503 to everybody. This is its own protocol with one timer and one queue added (docs/decisions/0100).
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections import OrderedDict
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from streaming.config import AccessConfig
from streaming.monitoring import metrics

_MOST_HEAD_BYTES = 64 * 1024
_OTHER_FILES = 256
"""File descriptors that the process needs beside its connections: feature store, Kafka, logs, libraries."""
_PROTOCOL_ERRORS = ("Invalid HTTP request received.", "Unsupported upgrade request.")

log = logging.getLogger(__name__)


class Connections:
    """All open connections, and in order of waiting time those that wait for their client.

    A connection waits for its client before a request, inside a request, or while the client does not read an answer.
    """

    def __init__(self, config: AccessConfig) -> None:
        self.timeout_s = config.request_timeout_s
        self._most = config.max_connections
        self._all: set[BoundedProtocol] = set()
        self._waiting: OrderedDict[BoundedProtocol, None] = OrderedDict()

    def opened(self, connection: BoundedProtocol) -> None:
        """Adds a new connection; beyond the limit, the connection that has waited longest for its client is closed."""
        self._all.add(connection)
        if len(self._all) > self._most:
            # The new connection has waited least, so it is closed only if all others are being answered.
            longest = next(iter(self._waiting), connection)
            longest.give_up("too_many")
        metrics.scorer.CONNECTIONS.set(len(self._all))

    def waits(self, connection: BoundedProtocol) -> None:
        """Notes that a connection waits for its client, unless it does so already."""
        self._waiting.setdefault(connection)

    def goes_on(self, connection: BoundedProtocol) -> None:
        """Notes that the scorer is the one to act on a connection."""
        self._waiting.pop(connection, None)

    def closed(self, connection: BoundedProtocol) -> None:
        """Removes a closed connection."""
        self._all.discard(connection)
        self._waiting.pop(connection, None)
        metrics.scorer.CONNECTIONS.set(len(self._all))

    def protocol(self, **given: Any) -> BoundedProtocol:
        """The protocol of a new connection; uvicorn calls this."""
        return BoundedProtocol(self, **given)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a limit on how long a client may keep it waiting."""

    def __init__(self, connections: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None
        self._whole = True
        """Whether no request has arrived in part."""
        self._in_head = False
        self._head_bytes = 0
        self._refused = False
        """Whether the answer says that what came is no request; the rest is read and discarded."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Registers the new connection and starts the time-out of its first request."""
        super().connection_made(transport)
        self._wait_for_client()
        self._connections.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the time-out and removes the connection."""
        self._go_on()
        self._connections.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Starts the time-out with the first bytes of a request, and refuses a head that is too large."""
        if self._refused:
            return
        if self._whole:
            self._wait_for_client()  # for the rest of the next request
        within = self._in_head
        super().data_received(data)
        if within and self._in_head and not self._refused:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES:
                self._refuse("head_too_large", "The head of the request is too large.")

    def on_message_begin(self) -> None:
        """Records that a request has begun to arrive."""
        self._whole, self._in_head, self._head_bytes = False, True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Records that the head of the request is complete."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Stops the time-out, because the request has arrived completely."""
        super().on_message_complete()
        self._whole = True
        if not self.flow.write_paused:  # if it is, the client must still read, whatever it asks meanwhile
            self._go_on()

    def on_response_complete(self) -> None:
        """Marks the connection as idle if no further request is waiting."""
        super().on_response_complete()
        if self._whole and not self.pipeline:
            self._connections.waits(self)  # idle: uvicorn's own time-out limits how long

    def pause_writing(self) -> None:
        """Starts the time-out within which the client must read its response."""
        super().pause_writing()
        self._wait_for_client()  # until it reads its answer

    def resume_writing(self) -> None:
        """Stops that time-out; a request that has partly arrived gets its own again."""
        super().resume_writing()
        self._go_on()
        if not self._whole:
            self._wait_for_client()  # for the rest of the next request, part of which has arrived

    def send_400_response(self, msg: str) -> None:
        """Counts bytes that are no valid HTTP, and refuses them."""
        self._refuse("no_http", msg)

    def _refuse(self, reason: str, msg: str) -> None:
        """Answers 400, and closes the connection once the client has closed its end, or after the time-out.

        If it were closed at once, what the client still sends would be answered by a reset, and many clients then
        lose the answer (RFC 9112, 9.6).
        """
        self._count(reason)
        if self.cycle is not None and not self.cycle.response_complete:
            super().send_400_response(msg)  # an earlier answer is being written, so nothing can be read after it
            return
        self._refused = True
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {len(msg)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n{msg}".encode("ascii"))
        self.transport.write_eof()
        self._wait_for_client()

    def give_up(self, reason: str) -> None:
        """Closes the connection and counts the reason, unless it was refused and counted before.

        No answer is sent, because the client reads or sends nothing.
        """
        if not self._refused:
            self._count(reason)
        self.transport.abort()

    @staticmethod
    def _count(reason: str) -> None:
        metrics.scorer.CONNECTIONS_DROPPED.labels(reason=reason).inc()

    def _wait_for_client(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self._connections.timeout_s, self.give_up, "too_slow")
            self._connections.waits(self)

    def _go_on(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._connections.goes_on(self)


def make_room(config: AccessConfig) -> None:
    """Raises this process's limit of open files so that all connections fit; logs a warning if that is not allowed."""
    wanted = config.max_connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning(
            "this process may open %d files, access.max_connections of %d needs %d: raise the limit (ulimit -n), or "
            "lower access.max_connections",
            *(allowed, config.max_connections, wanted),
        )


def quiet(record: logging.LogRecord) -> bool:
    """A log filter: errors that any client can cause on every connection are counted, not logged."""
    return record.getMessage() not in _PROTOCOL_ERRORS

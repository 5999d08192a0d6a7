"""Gives orders: what to serve goes to `control`, whether to learn to the group's `traffic`, the audit to
`decisions`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec
from kafka.errors import KafkaError

from streaming.clients import make_producer
from streaming.config import Config
from streaming.control.history import ControlError, PastKernel, partition_of
from streaming.events import LearningOrder, encode_traffic
from streaming.events.decisions import (
    Decision,
    Order,
    decode_decision,
    decode_order,
    encode_decision,
    encode_order,
)
from streaming.record_sizes import ORDER_BYTES
from streaming.topic_scan import scan

_ACK_S = 10.0


def read_order(config: Config, group: str) -> Order:
    """The order that now holds for a group; the default order if none can be read. Raises ControlError,
    TopicScanError."""
    partition_of(config, group)
    newest = Order(group)
    for record in scan(config, config.topics.control, 0):
        if record.key == group.encode():
            try:
                newest = Order(group) if record.value is None else decode_order(record.value)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                newest = Order(group)  # scorers ignore an unreadable order too
    return newest


def read_decisions(config: Config, group: str | None = None) -> list[Decision]:
    """The decisions of one group or all, oldest first; unreadable records are skipped. Raises TopicScanError."""
    decisions = []
    for record in scan(config, config.topics.decisions, 0):
        try:
            decision = decode_decision(record.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if group in {None, decision.group}:
            decisions.append(decision)
    return decisions


class Operator:
    """Gives orders in the name of one person, for one reason."""

    def __init__(self, config: Config, by: str, why: str) -> None:
        self._config, self._by, self._why = config, by, why

    def pin(self, group: str, past: PastKernel, *, kind: str = "pin") -> Order:
        """Makes every scorer serve this kernel until the next order; learning goes on. `kind` may be `rollback`."""
        pinned = {"pinned_version": past.info.version, "kernel": past.record, "frozen": False}
        return self._give(group, kind, pinned, {"version": past.info.version, "offset": past.offset})

    def freeze(self, group: str) -> Order:
        """Makes every scorer serve the frozen arm until the next order; learning goes on."""
        return self._give(group, "freeze", {"frozen": True}, {})

    def stop_learning(self, group: str) -> Order:
        """Makes the processor skip and count labelled requests, from here on in the group's traffic."""
        self._order_learning(group, learning=False)
        return self._give(group, "stop_learning", {"learning": False}, {})

    def resume(self, group: str) -> Order:
        """Ends all orders: the newest published kernel is served, and the processor learns."""
        before = read_order(self._config, group)
        if not before.learning:
            self._order_learning(group, learning=True)
        ended = {"pinned": before.pinned_version, "frozen": before.frozen, "learning": before.learning}
        cleared = {"pinned_version": None, "kernel": None, "frozen": False, "learning": True}
        return self._give(group, "resume", cleared, {"ended": ended})

    def _order_learning(self, group: str, *, learning: bool) -> None:
        # Written to the group's traffic, so that a replay stops at the same record (docs/decisions/0103).
        topic, partition = self._config.topics.traffic, partition_of(self._config, group)
        self._write(topic, partition, None, encode_traffic(LearningOrder(learning=learning, by=self._by)))

    def _give(self, group: str, kind: str, changes: Mapping[str, Any], detail: Mapping[str, Any]) -> Order:
        now, topics = time.time(), self._config.topics
        author = {"by": self._by, "why": self._why, "time": now}
        order = msgspec.structs.replace(read_order(self._config, group), **changes, **author)
        self._write(topics.control, 0, group.encode(), encode_order(order))
        decision = Decision(kind, group, now, self._by, {"why": self._why, **detail})
        self._write(topics.decisions, 0, group.encode(), encode_decision(decision))
        return order

    def _write(self, topic: str, partition: int, key: bytes | None, value: bytes) -> None:
        try:
            producer = make_producer(self._config.kafka, max_request_size=ORDER_BYTES)
            try:
                producer.send(topic, value, key=key, partition=partition).get(timeout=_ACK_S)
            finally:
                producer.close(timeout=_ACK_S)
        except KafkaError as error:
            raise ControlError(
                f"the record for topic {topic!r} was not acknowledged ({error!r}): `driftline kernel list` shows "
                "what holds now; give the order again once the broker answers"
            ) from error

"""Gives orders: what shall hold to `control`, whether to learn to the group's `traffic`, the audit to `decisions`."""

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
    """What is ordered of a group now; nothing if nothing can be read. Raises ControlError, TopicScanError."""
    partition_of(config, group)
    newest = Order(group)
    for record in scan(config, config.topics.control, 0):
        if record.key == group.encode():
            try:
                newest = Order(group) if record.value is None else decode_order(record.value)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                newest = Order(group)  # no scorer obeys it either
    return newest


def read_decisions(config: Config, group: str | None = None) -> list[Decision]:
    """The decisions of a group or of all, oldest first; what is none is passed over. Raises TopicScanError."""
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
    """One person who orders, and why."""

    def __init__(self, config: Config, by: str, why: str) -> None:
        self._config, self._by, self._why = config, by, why

    def pin(self, group: str, past: PastKernel, *, kind: str = "pin") -> Order:
        """Every scorer serves this kernel until the next order; learning goes on. `kind` `rollback` says why so."""
        pinned = {"pinned_version": past.info.version, "kernel": past.record, "frozen": False}
        return self._give(group, kind, pinned, {"version": past.info.version, "offset": past.offset})

    def freeze(self, group: str) -> Order:
        """Every scorer serves the frozen arm until the next order; learning goes on."""
        return self._give(group, "freeze", {"frozen": True}, {})

    def stop_learning(self, group: str) -> Order:
        """The processor skips labelled requests, and counts them, from here on in the group's traffic."""
        self._order_learning(group, learning=False)
        return self._give(group, "stop_learning", {"learning": False}, {})

    def resume(self, group: str) -> Order:
        """All goes its own way again: the newest published kernel is served, and the processor learns."""
        before = read_order(self._config, group)
        if not before.learning:
            self._order_learning(group, learning=True)
        ended = {"pinned": before.pinned_version, "frozen": before.frozen, "learning": before.learning}
        cleared = {"pinned_version": None, "kernel": None, "frozen": False, "learning": True}
        return self._give(group, "resume", cleared, {"ended": ended})

    def _order_learning(self, group: str, *, learning: bool) -> None:
        # In the group's own log: a replay stops at the same record, whenever it reads it (docs/decisions/0103).
        topic, partition = self._config.topics.traffic, partition_of(self._config, group)
        self._write(topic, partition, None, encode_traffic(LearningOrder(learning=learning, by=self._by)))

    def _give(self, group: str, kind: str, changes: Mapping[str, Any], detail: Mapping[str, Any]) -> Order:
        now, topics = time.time(), self._config.topics
        told = {"by": self._by, "why": self._why, "time": now}
        order = msgspec.structs.replace(read_order(self._config, group), **changes, **told)
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

"""One ingest on a thread, on the real broker, and what it reads and writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from kafka import TopicPartition

from streaming.clients import make_consumer, make_producer
from streaming.config import Config
from streaming.events import (
    DeadLetter,
    FeedbackEvent,
    Progress,
    ServedFeedback,
    Tick,
    Traffic,
    decode_traffic,
    encode_event,
)
from streaming.ingest import run_ingest
from streaming.topics import ensure_topics

PATIENCE_S = 120.0


def eventually(what: str, holds: Callable[[], Any]) -> Any:
    """Waits until `holds` gives something true, and gives it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if outcome := holds():
            return outcome
        time.sleep(0.05)
    pytest.fail(f"never happened: {what}")


class Topic:
    """All records of a topic, read from its beginning again and again."""

    def __init__(self, config: Config, name: str) -> None:
        self._consumer = make_consumer(config.kafka)
        partitions = self._consumer.partitions_for_topic(name)
        assert partitions is not None
        self._consumer.assign([TopicPartition(name, p) for p in partitions])
        self.records: list[Any] = []

    def __call__(self) -> list[Any]:
        for records in self._consumer.poll(timeout_ms=100).values():
            self.records.extend(records)
        return self.records


class Running:
    """One ingest on a thread, and what it writes."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.stop = threading.Event()
        self.exit_code: int | None = None
        self.thread = threading.Thread(target=self._run)
        self._traffic = Topic(config, config.topics.traffic)
        self._letters = Topic(config, config.topics.dead_letters)

    def _run(self) -> None:
        self.exit_code = run_ingest(self.config, self.stop)

    def send(self, *values: bytes | None) -> None:
        producer = make_producer(self.config.kafka)
        for value in values:
            producer.send(self.config.topics.interactions, value, key=b"k", headers=[("from", b"test")])
        producer.flush()
        producer.close()

    def traffic(self) -> list[Traffic]:
        return [decode_traffic(record.value) for record in self._traffic()]

    def feedback(self) -> list[str]:
        return [event.item_id for event in self.traffic() if isinstance(event, ServedFeedback)]

    def ticks(self) -> list[float]:
        return [event.time for event in self.traffic() if isinstance(event, Tick)]

    def read_up_to(self) -> float:
        """The time that marks claim for the slowest partition; 0 until they cover all."""
        newest: dict[int, float] = {}
        for mark in self.traffic():
            if isinstance(mark, Progress):
                newest |= {k: max(read, newest.get(k, 0.0)) for k, read in mark.read.items()}
        return min(newest.values()) if len(newest) == self.config.topics.interactions_partitions else 0.0

    def letters(self) -> list[DeadLetter]:
        return [msgspec.json.decode(record.value, type=DeadLetter) for record in self._letters()]

    def committed(self) -> int:
        names, group = self.config.topics, self.config.ingest_consumers
        consumer = make_consumer(self.config.kafka, group_id=group)
        try:
            partitions = [TopicPartition(names.interactions, p) for p in range(names.interactions_partitions)]
            return sum(consumer.committed(partition) or 0 for partition in partitions)
        finally:
            consumer.close(autocommit=False)


@contextmanager
def running(config: Config) -> Iterator[Running]:
    """An ingest that ends with the block."""
    ensure_topics(config)
    ingest = Running(config)
    ingest.thread.start()
    try:
        yield ingest
    finally:
        ingest.stop.set()
        ingest.thread.join(PATIENCE_S)
        assert not ingest.thread.is_alive()


def click(item: str, **changes: Any) -> bytes:
    """A click of `main.r1` on an item, now; `changes` are its other fields."""
    values: dict[str, Any] = {"request_id": "main.r1", "item_id": item, "time": time.time(), **changes}
    return encode_event(FeedbackEvent(**values))

"""Writing a batch: what is tried again, and what ends the process."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from kafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumberError,
    TopicAuthorizationFailedError,
)

from streaming.broker_clock import BrokerClock
from streaming.config import Config, KafkaConfig
from streaming.ingest import output
from streaming.ingest.kafka_health import KafkaHealth
from streaming.ingest.output import Output, OutputRefusedError, RecordRefusedError, Writer
from streaming.retries import StoppedError


class Producer:
    """Fails as configured, once per flush; a closed one is not used again."""

    def __init__(self, failures: list[KafkaError | None]) -> None:
        self.failures = failures
        self.closed = False
        self.sent = 0
        self.stamp = 0

    def send(self, *record: Any) -> Producer:
        assert not self.closed
        self.sent += 1
        self.stamp = record[-1]
        return self

    def flush(self, timeout: float) -> None:
        if isinstance(self.failures[0], KafkaTimeoutError):
            raise self.failures.pop(0) or AssertionError

    def get(self, timeout: float) -> Any:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        return type("Metadata", (), {"offset": self.sent, "topic": "traffic", "timestamp": self.stamp})

    def close(self, timeout: float) -> None:
        self.closed = True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Producer]:
    monkeypatch.setattr(output, "_RETRY_S", 0.0)
    monkeypatch.setattr(KafkaHealth, "_missing_topics", lambda _: [])
    return []


def writer(
    monkeypatch: pytest.MonkeyPatch, made: list[Producer], *failures: KafkaError | None, stop: bool = False
) -> Writer:
    left = list(failures)

    def make(_: KafkaConfig, **_options: Any) -> Producer:
        made.append(Producer(left))
        return made[-1]

    monkeypatch.setattr(output, "make_producer", make)
    stopping = threading.Event()
    if stop:
        stopping.set()
    return Writer(Config(), stopping, KafkaHealth(Config()), BrokerClock())


RECORD = Output("traffic", b"x", 0)


def test_a_producer_with_an_out_of_order_sequence_is_replaced_and_the_batch_sent_again(
    monkeypatch: pytest.MonkeyPatch, made: list[Producer]
) -> None:
    assert writer(monkeypatch, made, OutOfOrderSequenceNumberError(), None).write([RECORD]) == [1]
    assert [producer.closed for producer in made] == [True, False]


def test_a_batch_that_waits_for_the_broker_is_not_sent_twice(
    monkeypatch: pytest.MonkeyPatch, made: list[Producer]
) -> None:
    waits = writer(monkeypatch, made, KafkaTimeoutError(), KafkaTimeoutError(), None)
    assert waits.write([RECORD]) == [1]
    assert [producer.sent for producer in made] == [1]


def test_a_permanent_rejection_ends_with_the_topic_and_a_remedy(
    monkeypatch: pytest.MonkeyPatch, made: list[Producer]
) -> None:
    with pytest.raises(OutputRefusedError, match=r"traffic.*TopicAuthorizationFailed.*rights of the user"):
        writer(monkeypatch, made, TopicAuthorizationFailedError()).write([RECORD])


def test_a_rejection_of_one_record_is_reported_and_the_next_write_has_a_new_producer(
    monkeypatch: pytest.MonkeyPatch, made: list[Producer]
) -> None:
    refusing = writer(monkeypatch, made, MessageSizeTooLargeError(), None)
    with pytest.raises(RecordRefusedError, match="MessageSizeTooLarge"):
        refusing.write([RECORD])
    assert refusing.write([RECORD]) == [1]
    assert [producer.closed for producer in made] == [True, False]


def test_a_library_error_on_one_record_is_a_rejection_of_that_record(
    monkeypatch: pytest.MonkeyPatch, made: list[Producer]
) -> None:
    monkeypatch.setattr(Producer, "send", lambda *_: 1 // 0)
    with pytest.raises(RecordRefusedError, match="ZeroDivisionError"):
        writer(monkeypatch, made).write([RECORD])


def test_a_stopping_process_does_not_wait_for_the_broker(monkeypatch: pytest.MonkeyPatch, made: list[Producer]) -> None:
    with pytest.raises(StoppedError):
        writer(monkeypatch, made, KafkaTimeoutError(), stop=True).write([RECORD])
    assert made[0].closed


def test_an_empty_write_creates_no_producer(monkeypatch: pytest.MonkeyPatch, made: list[Producer]) -> None:
    assert writer(monkeypatch, made).write([]) == []
    assert made == []


@pytest.mark.parametrize("error", [AssertionError("our clock"), MemoryError(), TypeError("our code")])
def test_an_error_unrelated_to_a_record_is_not_a_rejection_of_it(
    monkeypatch: pytest.MonkeyPatch, made: list[Producer], error: Exception
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(BrokerClock, "acknowledged", fails)
    with pytest.raises(type(error)):
        writer(monkeypatch, made, None).write([RECORD])


def test_running_out_of_memory_refuses_no_record(monkeypatch: pytest.MonkeyPatch, made: list[Producer]) -> None:
    def fails(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Producer, "send", fails)
    with pytest.raises(MemoryError):
        writer(monkeypatch, made).write([RECORD])

"""The records of one poll, with a replaced backbone: order and retries."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from kafka.errors import MessageSizeTooLargeError

from features.store.online import StoreUnavailableError
from features.text import TextModelUnavailableError
from streaming.broker_clock import LOG_APPEND_TIME
from streaming.config import Config
from streaming.events import (
    CURES,
    DeadLetter,
    DriftEvent,
    FeedbackEvent,
    ImpressionEvent,
    ItemEvent,
    RefusedError,
    ServedFeedback,
    UserEvent,
    decode_traffic,
    encode_event,
)
from streaming.events.announcements import ANNOUNCED
from streaming.events.decisions import decode_decision
from streaming.ingest.batch import Batch
from streaming.ingest.dead_letter_writer import DeadLetterWriter
from streaming.ingest.output import Output, RecordRefusedError
from streaming.ingest.reader import Polled, UnreadableBatch
from streaming.ingest.routing import Routing
from streaming.retries import Retrier

NOW = 1_000.0
CONFIG = Config()


@dataclass
class Record:
    """What kafka-python gives."""

    value: bytes | None
    offset: int = 0
    topic: str = "interactions"
    partition: int = 0
    key: bytes | None = b"key"
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    timestamp: int = int(NOW * 1_000)
    timestamp_type: int = LOG_APPEND_TIME


@dataclass
class Backbone:
    """ImpressionEncoder by name; refuses one user, stumbles over another and is without a store for a while."""

    down: int = 0

    def encode(self, event: ImpressionEvent) -> bytes:
        if self.down:
            self.down -= 1
            raise StoreUnavailableError("store is away")
        if event.user_id == "poison":
            raise RefusedError("not_represented", "cannot")
        if event.user_id == "bomb":
            raise ZeroDivisionError("nobody foresaw this")
        return msgspec.msgpack.encode(["f", event.request_id, "shown", event.time])


def batch_of(*events: Any, unreadable: Sequence[UnreadableBatch] = ()) -> Batch:
    values = [event if isinstance(event, bytes) else encode_event(event) for event in events]
    return batch_with(*(Record(value, offset) for offset, value in enumerate(values)), unreadable=unreadable)


def batch_with(*records: Record, unreadable: Sequence[UnreadableBatch] = (), routing: Routing | None = None) -> Batch:
    return Batch(CONFIG, routing or Routing(CONFIG), DeadLetterWriter(CONFIG), Polled([*records], [*unreadable]), NOW)


def retrier() -> Retrier:
    return Retrier(threading.Event(), first_s=0.001, longest_s=0.002)


def finish(batch: Batch, backbone: Backbone | None = None) -> list[Output]:
    batch.represent(backbone or Backbone(), retrier())
    written: list[Output] = []
    batch.write(written.extend)
    return written


def letters(outputs: Sequence[Output]) -> list[DeadLetter]:
    return [msgspec.json.decode(output.value, type=DeadLetter) for output in outputs if output.topic == "dead-letters"]


def click(item: str, time: float = NOW) -> FeedbackEvent:
    return FeedbackEvent("main.r", item, time)


def test_traffic_and_dead_letters_keep_the_order_of_the_records() -> None:
    outputs = finish(batch_of(click("a"), b"junk", ImpressionEvent("main.r", NOW, "u", ["i"]), click("b")))
    assert [output.topic for output in outputs] == ["traffic", "dead-letters", "traffic", "traffic"]
    shown = [decode_traffic(output.value) for output in outputs if output.topic == "traffic"]
    assert [event.item_id for event in shown if isinstance(event, ServedFeedback)] == ["a", "shown", "b"]


def test_a_dead_letter_holds_the_complete_record_and_its_origin() -> None:
    (output,) = finish(batch_of(b"\xffjunk"))
    letter = msgspec.json.decode(output.value, type=DeadLetter)
    assert (letter.topic, letter.partition, letter.offset, letter.value) == ("interactions", 0, 0, b"\xffjunk")
    assert (letter.reason, letter.time, letter.attempts, output.key) == ("not_json", NOW, 1, b"key")


@pytest.mark.parametrize("number", ["Infinity", "NaN", "1e400"])
def test_the_dead_letter_of_a_non_finite_number_round_trips(number: str) -> None:
    record = f'{{"event": "item", "item_id": "i", "time": 1, "fields": {{"year": [{number}]}}}}'.encode()
    (output,) = finish(batch_of(record))
    assert msgspec.json.decode(output.value, type=DeadLetter).value == record


def test_a_record_too_large_for_a_dead_letter_is_identified_by_its_origin() -> None:
    (output,) = finish(batch_of(b"x" * 3_000_000))
    letter = msgspec.json.decode(output.value, type=DeadLetter)
    assert letter.value == b"" and "3000000 bytes" in letter.detail


def test_an_impression_that_cannot_be_represented_is_refused_without_affecting_others() -> None:
    impressions = [ImpressionEvent("main.r", NOW, user, ["i"]) for user in ("u", "poison", "v")]
    batch = batch_of(*impressions)
    finish(batch)
    assert batch.outcomes() == [None, "not_represented", None]


def test_an_unexpected_error_refuses_one_impression_by_the_name_of_the_error() -> None:
    batch = batch_of(*(ImpressionEvent("main.r", NOW, user, ["i"]) for user in ("u", "bomb", "v")))
    (letter,) = letters(finish(batch))
    assert (letter.reason, letter.detail) == ("failed", "ZeroDivisionError: nobody foresaw this")
    assert letter.cure == CURES["failed"]
    assert batch.outcomes() == [None, "failed", None]


def test_an_unavailable_feature_store_is_waited_for_and_no_impression_is_skipped() -> None:
    batch = batch_of(*(ImpressionEvent("main.r", NOW, user, ["i"]) for user in ("u", "v")))
    assert len(finish(batch, Backbone(down=3))) == 2
    assert batch.outcomes() == [None, None]


def test_an_unexpected_error_while_reading_refuses_one_record() -> None:
    class Stumbling(Routing):
        def partition(self, event: ImpressionEvent | FeedbackEvent) -> int:
            if event.request_id == "main.bomb":
                raise RuntimeError("boom")
            return super().partition(event)

    values = [FeedbackEvent(name, "i", NOW) for name in ("main.a", "main.bomb", "main.b")]
    records = [Record(encode_event(value), offset) for offset, value in enumerate(values)]
    outputs = finish(batch_with(*records, routing=Stumbling(CONFIG)))
    assert [output.topic for output in outputs] == ["traffic", "dead-letters", "traffic"]
    assert letters(outputs)[0].detail == "RuntimeError: boom"


def test_a_record_rejected_by_kafka_becomes_a_dead_letter_and_the_others_are_written() -> None:
    written: list[Output] = []

    def write(outputs: Sequence[Output]) -> None:
        if any(b"large" in output.value for output in outputs if output.topic == "traffic"):
            raise RecordRefusedError("too large")
        written.extend(outputs)

    batch = batch_of(click("a"), click("large"), click("b"))
    batch.write(write)
    assert [output.topic for output in written] == ["traffic", "traffic", "dead-letters"]
    assert letters(written)[0].reason == "failed"


def _refusing(cause: Exception, written: list[Output]) -> Callable[[Sequence[Output]], None]:
    def write(outputs: Sequence[Output]) -> None:
        if any(output.topic == "traffic" for output in outputs):
            raise RecordRefusedError("no") from cause
        written.extend(outputs)

    return write


def test_an_internal_error_on_every_record_makes_no_dead_letter() -> None:
    written: list[Output] = []
    with pytest.raises(RecordRefusedError):
        batch_of(click("a"), click("b")).write(_refusing(TypeError("ours"), written))
    assert written == []


@pytest.mark.parametrize("clicks", [1, 2])
def test_records_explicitly_rejected_by_kafka_become_dead_letters_even_if_all_are(clicks: int) -> None:
    written: list[Output] = []
    batch_of(*[click("a")] * clicks).write(_refusing(MessageSizeTooLargeError(), written))
    assert [letter.reason for letter in letters(written)] == ["failed"] * clicks


def test_one_unwritable_record_delays_no_other_record() -> None:
    written: list[Output] = []
    batch_of(click("a")).write(_refusing(TypeError("it alone"), written))
    assert [letter.reason for letter in letters(written)] == ["failed"]


def test_a_dead_letter_rejected_by_kafka_is_written_without_the_record() -> None:
    written: list[Output] = []

    def write(outputs: Sequence[Output]) -> None:
        if any(output.key is not None for output in outputs):
            raise RecordRefusedError("a key it does not like")
        written.extend(outputs)

    batch_of(b"junk", click("a")).write(write)
    assert [output.topic for output in written] == ["traffic", "dead-letters"]
    assert (letters(written)[0].reason, letters(written)[0].value) == ("not_json", b"")


def test_a_key_or_headers_too_large_for_a_dead_letter_are_identified_by_their_origin() -> None:
    for record in (Record(b"junk", key=b"k" * 20_000_000), Record(b"junk", headers=[("h", b"v" * 20_000_000)])):
        (output,) = finish(batch_with(record))
        assert output.key is None and output.headers == ()
        (letter,) = letters([output])
        assert letter.value == b"junk" and "key and headers of 2000000" in letter.detail


def test_records_that_cannot_be_decompressed_are_one_dead_letter_with_their_offsets() -> None:
    batch = batch_of(click("a"), unreadable=[UnreadableBatch("interactions", 1, 7, 12, ValueError("no codec"))])
    (letter,) = letters(finish(batch))
    assert (letter.reason, letter.partition, letter.offset, letter.value) == ("unreadable", 1, 7, b"")
    assert "records 7 to 11" in letter.detail and "ValueError: no codec" in letter.detail


def test_a_record_larger_than_the_event_limit_is_refused() -> None:
    (letter,) = letters(finish(batch_of(b'{"event":"item","item_id":"i","time":1,"text":"' + b"x" * 2_000_000 + b'"}')))
    assert letter.reason == "too_large"


def test_feedback_with_a_future_time_gets_its_append_time() -> None:
    corrected: list[float] = []
    routing = Routing(CONFIG, on_corrected=lambda event: corrected.append(event.time))
    outputs = finish(batch_with(Record(encode_event(click("a", NOW + 61.0))), routing=routing))
    (served,) = (decode_traffic(output.value) for output in outputs)
    assert isinstance(served, ServedFeedback)
    assert NOW <= served.time <= NOW + 0.001 and corrected == [NOW + 61.0]


def test_a_topic_that_keeps_the_senders_times_is_judged_by_the_time_of_reading() -> None:
    batch = batch_with(Record(encode_event(click("a", NOW + 61.0)), timestamp=0, timestamp_type=0))
    (served,) = (decode_traffic(output.value) for output in finish(batch))
    assert isinstance(served, ServedFeedback) and served.time == NOW
    assert batch.appended() == {}


def test_profiles_are_left_to_the_profile_consumer_even_if_invalid() -> None:
    batch = batch_of(UserEvent("u", 1.0), ItemEvent("", 1.0), click("a"))
    assert [output.topic for output in finish(batch)] == ["traffic"]
    assert batch.outcomes() == [None, None, None]


def test_read_progress_is_the_append_time_of_the_last_record_of_each_partition() -> None:
    records = [Record(b"junk", n, partition=n % 2, timestamp=1_000 + n) for n in range(4)]
    assert batch_with(*records).appended() == {0: 1.002, 1: 1.003}


def test_the_newest_time_per_partition_is_that_of_records_written_to_traffic() -> None:
    batch = batch_of(click("a", 5.0), click("b", 3.0), UserEvent("u", 900.0), b"junk")
    finish(batch)
    assert batch.newest() == {0: 5.0}


def test_announced_drift_is_recorded_with_its_partition_and_written_to_decisions_only() -> None:
    sale = DriftEvent("sale", "campaign", "begins", NOW, {"scene": ["home"]})
    batch = batch_of(click("a"), sale, DriftEvent("", "campaign", "begins", NOW))
    outputs = finish(batch)
    assert [output.topic for output in outputs] == ["traffic", "decisions", "dead-letters"]
    decision = decode_decision(outputs[1].value)
    assert (decision.kind, decision.group, decision.time) == (ANNOUNCED, "", NOW)
    assert decision.detail["name"] == "sale" and decision.detail["domain"] == {"scene": ["home"]}
    assert batch.announcements() == [(0, sale)]
    assert batch.outcomes() == [None, None, "bad_announcement"]
    assert batch.newest() == {0: NOW}


@pytest.mark.parametrize("away", [StoreUnavailableError("away"), TextModelUnavailableError("away")])
def test_an_impression_waits_for_an_unavailable_store_or_language_model(away: Exception) -> None:
    class Away(Backbone):
        tries = 0

        def encode(self, event: ImpressionEvent) -> bytes:
            self.tries += 1
            if self.tries < 3:
                raise away
            return super().encode(event)

    outputs = finish(batch_of(ImpressionEvent("main.r", NOW, "u", ["i"])), Away())
    assert [output.topic for output in outputs] == ["traffic"]


def test_running_out_of_memory_makes_no_dead_letter_of_an_impression() -> None:
    class Starving(Backbone):
        def encode(self, event: ImpressionEvent) -> bytes:
            raise MemoryError

    with pytest.raises(MemoryError):
        finish(batch_of(ImpressionEvent("main.r", NOW, "u", ["i"])), Starving())

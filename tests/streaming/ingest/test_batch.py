"""The records of one poll, with the store and the backbone stood in for: our own order and our own retries."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from streaming.config import Config
from streaming.events import (
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
from streaming.ingest.batch import Batch
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


@dataclass
class Store:
    """Fails `down` times, then takes all but the poison."""

    down: int = 0
    users: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    calls: int = 0

    def write_users(self, users: list[UserEvent]) -> None:
        self._may_fail([user.user_id for user in users])
        self.users += [user.user_id for user in users]

    def write_items(self, items: list[ItemEvent]) -> None:
        self._may_fail([item.item_id for item in items])
        self.items += [f"{item.item_id}@{item.time:g}" for item in items]

    def _may_fail(self, ids: list[str]) -> None:
        self.calls += 1
        if self.down:
            self.down -= 1
            raise ConnectionError("store is away")
        if "poison" in ids:
            raise ValueError("cannot hold poison")


@dataclass
class Backbone:
    """ImpressionEncoder by name; refuses one user."""

    forgotten: int = 0

    def encode(self, event: ImpressionEvent) -> bytes:
        if event.user_id == "poison":
            raise RefusedError("not_represented", "cannot")
        return msgspec.msgpack.encode(["f", event.request_id, "shown", event.time])

    def forget(self) -> None:
        self.forgotten += 1


def batch_of(*events: Any) -> Batch:
    values = [event if isinstance(event, bytes) else encode_event(event) for event in events]
    return Batch(CONFIG, Routing(CONFIG), [Record(value, offset) for offset, value in enumerate(values)], NOW)


def retrier() -> Retrier:
    return Retrier(threading.Event(), first_s=0.001, longest_s=0.002)


def finish(batch: Batch, store: Store | None = None, backbone: Backbone | None = None) -> list[Any]:
    batch.write_profiles(store or Store(), retrier())
    batch.represent(backbone or Backbone(), retrier())
    return batch.outputs()


def click(item: str, time: float = NOW) -> FeedbackEvent:
    return FeedbackEvent("main.r", item, time)


def test_traffic_and_letters_keep_the_order_of_the_records() -> None:
    outputs = finish(batch_of(click("a"), b"junk", ImpressionEvent("main.r", NOW, "u", ["i"]), click("b")))
    assert [output.topic for output in outputs] == ["traffic", "dead-letters", "traffic", "traffic"]
    shown = [decode_traffic(output.value) for output in outputs if output.topic == "traffic"]
    assert [event.item_id for event in shown if isinstance(event, ServedFeedback)] == ["a", "shown", "b"]


def test_a_dead_letter_holds_the_record_whole_and_where_it_came_from() -> None:
    (output,) = finish(batch_of(b"\xffjunk"))
    letter = msgspec.json.decode(output.value, type=DeadLetter)
    assert (letter.topic, letter.partition, letter.offset, letter.value) == ("interactions", 0, 0, b"\xffjunk")
    assert (letter.reason, letter.time, letter.attempts, output.key) == ("not_json", NOW, 1, b"key")


@pytest.mark.parametrize("number", ["Infinity", "NaN", "1e400"])
def test_the_dead_letter_of_a_number_that_is_none_can_be_read_again(number: str) -> None:
    record = f'{{"event": "item", "item_id": "i", "time": 1, "fields": {{"year": [{number}]}}}}'.encode()
    (output,) = finish(batch_of(record))
    assert msgspec.json.decode(output.value, type=DeadLetter).value == record


def test_a_record_too_large_for_a_letter_is_named_by_its_origin() -> None:
    (output,) = finish(batch_of(b"x" * 3_000_000))
    letter = msgspec.json.decode(output.value, type=DeadLetter)
    assert letter.value == b"" and "3000000 bytes" in letter.detail


def test_of_several_profiles_of_one_item_the_newest_is_written() -> None:
    store = Store()
    finish(batch_of(ItemEvent("i", 2.0), ItemEvent("j", 1.0), ItemEvent("i", 1.0), ItemEvent("j", 3.0)), store)
    assert store.items == ["i@2", "j@3"] and store.calls == 1


def test_a_store_that_is_away_is_waited_for_and_no_profile_is_skipped() -> None:
    store = Store(down=3)
    assert finish(batch_of(UserEvent("u", 1.0), ItemEvent("i", 1.0)), store) == []
    assert (store.users, store.items) == (["u"], ["i@1"])


def test_one_profile_that_the_store_cannot_hold_is_refused_alone() -> None:
    store = Store()
    batch = batch_of(UserEvent("u1", 1.0), UserEvent("poison", 1.0), UserEvent("u2", 1.0))
    (output,) = finish(batch, store)
    letter = msgspec.json.decode(output.value, type=DeadLetter)
    assert (letter.reason, letter.attempts, letter.offset) == ("not_written", 2, 1)
    assert store.users == ["u1", "u2"]
    assert batch.outcomes() == [None, "not_written", None]


def test_an_impression_that_cannot_be_represented_is_refused_alone() -> None:
    impressions = [ImpressionEvent("main.r", NOW, user, ["i"]) for user in ("u", "poison", "v")]
    batch = batch_of(*impressions)
    finish(batch)
    assert batch.outcomes() == [None, "not_represented", None]


def test_profiles_of_the_batch_are_seen_by_its_impressions() -> None:
    backbone = Backbone()
    finish(batch_of(click("a")), backbone=backbone)
    assert backbone.forgotten == 0
    finish(batch_of(UserEvent("u", 1.0)), backbone=backbone)
    assert backbone.forgotten == 1


def test_the_newest_time_per_partition_is_what_went_to_traffic() -> None:
    batch = batch_of(click("a", 5.0), click("b", 3.0), UserEvent("u", 900.0), b"junk")
    finish(batch)
    assert batch.newest() == {0: 5.0}


def test_announced_drift_is_taken_with_its_partition_and_goes_nowhere_else() -> None:
    sale = DriftEvent("sale", "campaign", "begins", NOW)
    batch = batch_of(click("a"), sale, DriftEvent("", "campaign", "begins", NOW))
    assert [output.topic for output in finish(batch)] == ["traffic", "dead-letters"]
    assert batch.announcements() == [(0, sale)]
    assert batch.outcomes() == [None, None, "bad_announcement"]
    assert batch.newest() == {0: NOW}

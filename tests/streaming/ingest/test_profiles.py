"""Profiles of one poll on their way to a replaced store: order and retries."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from features.store.online import StoreUnavailableError
from streaming.config import Config
from streaming.events import DeadLetter, FeedbackEvent, ItemEvent, UserEvent, encode_event
from streaming.ingest.dead_letter_writer import DeadLetterWriter
from streaming.ingest.output import Output
from streaming.ingest.profile_lane import ProfileBatch
from streaming.ingest.reader import Polled
from streaming.ingest.routing import Routing
from streaming.retries import Retrier
from tests.streaming.ingest.test_batch import NOW, Record

CONFIG = Config()


@dataclass
class Store:
    """Fails `down` times, then takes all but the poison."""

    down: int = 0
    users: dict[str, float] = field(default_factory=dict)
    items: dict[str, float] = field(default_factory=dict)
    writes: list[str] = field(default_factory=list)

    def write_users(self, users: Sequence[UserEvent]) -> None:
        self._write(self.users, {user.user_id: user.time for user in users})

    def write_items(self, items: Sequence[ItemEvent]) -> None:
        self._write(self.items, {item.item_id: item.time for item in items})

    def user_times(self, ids: Sequence[str]) -> list[float | None]:
        return [self.users.get(key) for key in ids]

    def item_times(self, ids: Sequence[str]) -> list[float | None]:
        return [self.items.get(key) for key in ids]

    def _write(self, stored: dict[str, float], fresh: dict[str, float]) -> None:
        self.writes.append(",".join(fresh))
        if self.down:
            self.down -= 1
            raise StoreUnavailableError("store is away")
        if "poison" in fresh:
            raise ValueError("cannot hold poison")
        stored.update(fresh)


def batch_of(*events: Any) -> ProfileBatch:
    values = [event if isinstance(event, bytes) else encode_event(event) for event in events]
    records = [Record(value, offset) for offset, value in enumerate(values)]
    return ProfileBatch(Routing(CONFIG), DeadLetterWriter(CONFIG), Polled(records, []), NOW)


def write(batch: ProfileBatch, store: Store) -> list[DeadLetter]:
    batch.write(store, Retrier(threading.Event(), first_s=0.001, longest_s=0.002))
    written: list[Output] = []
    batch.write_letters(written.extend)
    return [msgspec.json.decode(output.value, type=DeadLetter) for output in written]


def test_of_several_profiles_of_one_item_the_newest_is_written() -> None:
    store = Store()
    write(batch_of(ItemEvent("i", 2.0), ItemEvent("j", 1.0), ItemEvent("i", 1.0), ItemEvent("j", 3.0)), store)
    assert store.items == {"i": 2.0, "j": 3.0} and store.writes == ["i,j"]


def test_an_older_profile_does_not_replace_a_newer_one_that_is_stored() -> None:
    store = Store(users={"u": 5.0, "v": 5.0}, items={"i": 5.0})
    batch = batch_of(UserEvent("u", 4.0), UserEvent("v", 6.0), ItemEvent("i", 4.9))
    assert write(batch, store) == []
    assert (store.users, store.items) == ({"u": 5.0, "v": 6.0}, {"i": 5.0})
    assert store.writes == ["v"]


def test_a_profile_as_new_as_the_stored_one_replaces_it() -> None:
    store = Store(users={"u": 5.0})
    write(batch_of(UserEvent("u", 5.0)), store)
    assert store.writes == ["u"]


@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=6), max_size=8))
def test_the_newest_profile_is_stored_for_any_order_and_duplicates(polls: list[list[tuple[str, int]]]) -> None:
    store = Store()
    for poll in [*polls, *polls[::-1]]:
        write(batch_of(*(ItemEvent(name, float(time)) for name, time in poll)), store)
    sent = [pair for poll in polls for pair in poll]
    assert store.items == {name: float(max(t for n, t in sent if n == name)) for name, _ in sent}


def test_a_profile_from_the_future_does_not_block_those_of_the_next_hours() -> None:
    store = Store()
    write(batch_of(UserEvent("u", NOW + 3_600.0)), store)
    assert store.users["u"] <= NOW + 0.001


def test_an_unavailable_store_is_waited_for_and_no_profile_is_skipped() -> None:
    store = Store(down=3)
    assert write(batch_of(UserEvent("u", 1.0), ItemEvent("i", 1.0)), store) == []
    assert (list(store.users), list(store.items)) == (["u"], ["i"])


def test_one_unstorable_profile_is_refused_without_affecting_others() -> None:
    store = Store()
    batch = batch_of(UserEvent("u1", 1.0), UserEvent("poison", 1.0), UserEvent("u2", 1.0))
    (letter,) = write(batch, store)
    assert (letter.reason, letter.attempts, letter.offset) == ("not_written", 2, 1)
    assert list(store.users) == ["u1", "u2"]
    assert batch.outcomes() == [None, "not_written", None]


def test_other_events_are_left_to_the_feedback_consumer_and_invalid_profiles_are_not() -> None:
    batch = batch_of(FeedbackEvent("main.r", "i", NOW), b"junk", ItemEvent("", 1.0))
    (letter,) = write(batch, Store())
    assert (letter.reason, letter.offset) == ("bad_id", 2)

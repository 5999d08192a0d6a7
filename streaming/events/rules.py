"""Rules for outside events, the same at both entry points, `POST /v1/events` and the topic `interactions`.

docs/decisions/0087 says why they are the same.
"""

from __future__ import annotations

import math

import msgspec

from model.config import MAX_QUERY
from streaming.config import Config, group_of_request
from streaming.events.announcements import announcement_fault
from streaming.events.dead_letter import RefusedError
from streaming.events.outside import (
    DriftEvent,
    Event,
    FeedbackEvent,
    ImpressionEvent,
    ItemEvent,
    UserEvent,
    decode_event,
    json_fault,
)
from streaming.events.request_ids import RequestIds

MAX_ID = 512

_MILLISECONDS = 1e11
"""In seconds since the epoch this is the year 5138; in milliseconds it is 1973. Larger times are milliseconds."""


class EventRules:
    """The rules of one configuration."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._space = config.domain_space()
        access = config.access
        self.request_ids = RequestIds(
            [secret.get_secret_value() for secret in access.request_id_secrets], access.unsigned_ids
        )
        """Makes and recognises the ids of this deployment's scorers."""

    def check(self, event: Event, now: float) -> None:
        """Raises RefusedError unless the event is valid at broker time `now`, seconds."""
        self._check_time(event.time, now)
        match event:
            case FeedbackEvent():
                _check_id("request_id", event.request_id)
                _check_id("item_id", event.item_id)
                if not (self.request_ids.ours(event.request_id) or self.request_ids.foreign(event.request_id)):
                    raise RefusedError("unsigned", f"no scorer gave the request id {event.request_id[:80]!r}")
            case ImpressionEvent():
                self._check_impression(event)
            case ItemEvent():
                _check_id("item_id", event.item_id)
            case UserEvent():
                _check_id("user_id", event.user_id)
            case DriftEvent():
                fault = announcement_fault(event)
                if fault is not None:
                    raise RefusedError("bad_announcement", fault)

    def timed(self, event: Event, appended: float) -> Event:
        """The event, with `appended` as its time if it claims a later one: it must have happened before (0097)."""
        return event if event.time <= appended else msgspec.structs.replace(event, time=appended)

    def group(self, event: ImpressionEvent | FeedbackEvent) -> str:
        """The kernel group named in the request id, else the group of the domain. Raises RefusedError.

        Both kinds follow one rule, so that feedback reaches the partition of its impression. An undeclared value of
        the domain counts as `unknown`, as in a scorer.
        """
        named = group_of_request(event.request_id)
        if self._config.partition_of(named) is not None:
            return named
        if event.domain is None:
            raise RefusedError(
                "no_group", f"request {event.request_id[:80]!r} names no kernel group and the event names no domain"
            )
        group = self._config.group_of(self._space.known(event.domain))
        if group is None:
            raise RefusedError("no_group", f"no kernel group includes the domain {event.domain.key[:80]!r}")
        return group

    def _check_time(self, time: float, now: float) -> None:
        if not math.isfinite(time) or time < 0:
            raise RefusedError("bad_time", f"`time` is {time}: seconds since the epoch are wanted, 0 or more")
        ahead = time - now
        if ahead > self._config.ingest.future_s:
            hint = "; it looks like milliseconds or finer, seconds are wanted" if time > _MILLISECONDS else ""
            raise RefusedError("future", f"`time` is {ahead:.12g} s ahead of the broker's clock{hint}")

    def _check_impression(self, event: ImpressionEvent) -> None:
        """Raises RefusedError for an impression that could not be learned from, or that a scorer must have made."""
        if not event.items:
            raise RefusedError("no_items", "`items` is empty")
        most = self._config.ingest.max_items
        if len(event.items) > most:
            raise RefusedError("too_many_items", f"{len(event.items)} items, at most {most} are taken")
        _check_id("request_id", event.request_id)
        # A scorer logs its own impressions, so an outside impression under a scorer's id can only be a forgery.
        if not self.request_ids.foreign(event.request_id):
            raise RefusedError(
                "unsigned", f"the request id {event.request_id[:80]!r} has none of the prefixes in access.unsigned_ids"
            )
        _check_id("user_id", event.user_id)
        if event.query.isspace() or len(event.query) > MAX_QUERY:
            raise RefusedError(
                "bad_query", f"`query` is blank or has more than {MAX_QUERY} characters: cut it, or leave it out"
            )
        for index, item in enumerate(event.items):
            _check_id(f"items[{index}]", item)
        if len(set(event.items)) != len(event.items):
            raise RefusedError("repeated_item", "an item occurs in `items` more than once")


def decode_outside(value: bytes | None) -> Event:
    """The event in the bytes of a record. Raises RefusedError."""
    if not value:
        raise RefusedError("empty", "the record has no value")
    try:
        return decode_event(value)
    except msgspec.ValidationError as error:
        text = str(error)
        unknown = "`$.event`" in text or "field `event`" in text
        raise RefusedError("unknown_event" if unknown else "bad_shape", text) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError("not_json", json_fault(error)) from error


def _check_id(name: str, identifier: str) -> None:
    if not identifier or identifier.isspace():
        raise RefusedError("bad_id", f"`{name}` is empty")
    if len(identifier) > MAX_ID:
        raise RefusedError("bad_id", f"`{name}` has {len(identifier)} characters, at most {MAX_ID} are taken")

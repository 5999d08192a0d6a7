"""What an outside event must be, and which partition of `traffic` it goes to. No broker, no clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import msgspec

from streaming.announcements import announcement_fault
from streaming.config import Config, group_of_request
from streaming.events import DriftEvent, Event, FeedbackEvent, ImpressionEvent, ItemEvent, UserEvent, decode_event

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "empty": "the record has no value",
        "not_json": "the value is no JSON in UTF-8",
        "unknown_event": "`event` is missing or none of item, user, impression, feedback, drift",
        "bad_shape": "a key is missing, unknown, or has a value of the wrong kind",
        "bad_id": "an identifier is empty or longer than 512 characters",
        "bad_time": "`time` is no time: negative, or not finite",
        "future": "`time` lies further in the future than ingest.future_s",
        "no_items": "an impression shows nothing",
        "repeated_item": "an impression shows an item twice",
        "too_many_items": "an impression shows more items than ingest.max_items",
        "bad_announcement": "name, kind or domain of a drift announcement is empty, too long or unreadable",
        "no_group": "neither the request id nor the domain names a kernel group",
        "too_large": "the impression with its representations is larger than a record may be",
        "not_represented": "the impression could not be represented",
        "not_written": "the feature store refuses this profile and takes others",
    }
)
"""Why a record is refused: short stable names, each with its meaning."""

MAX_ID = 512

_MILLISECONDS = 1e11
"""Seconds since the epoch reach it in the year 5138; milliseconds passed it in 1973."""


class RefusedError(Exception):
    """An event that the stream goes on without."""

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS, reason
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Routing:
    """The rules of one configuration."""

    def __init__(self, config: Config, on_undeclared: Callable[[], None] = lambda: None) -> None:
        """`on_undeclared` is told of every impression of an undeclared domain value, as a scorer's is."""
        self._config = config
        self._on_undeclared = on_undeclared
        self._space = config.domain_space()

    def read(self, value: bytes | None, now: float) -> Event:
        """The event in `value` if it is in order at wall-clock time `now`. Raises RefusedError.

        An undeclared value of an impression's or feedback's domain becomes `unknown`, as it does in a scorer.
        """
        if not value:
            raise RefusedError("empty", "there is nothing in it")
        event = _decode(value)
        self._check_time(event.time, now)
        match event:
            case FeedbackEvent():
                _check_ids((event.request_id, event.item_id))
                if event.domain is not None and not self._space.declared(event.domain):
                    return msgspec.structs.replace(event, domain=self._space.known(event.domain))
            case ImpressionEvent():
                self._check_impression(event)
                if not self._space.declared(event.domain):
                    self._on_undeclared()
                    return msgspec.structs.replace(event, domain=self._space.known(event.domain))
            case ItemEvent():
                _check_ids((event.item_id,))
            case UserEvent():
                _check_ids((event.user_id,))
            case DriftEvent():
                fault = announcement_fault(event)
                if fault is not None:
                    raise RefusedError("bad_announcement", fault)
        return event

    def partition(self, event: ImpressionEvent | FeedbackEvent) -> int:
        """Partition of `traffic`: by the group that the request id names, else by the domain. Raises RefusedError.

        One rule for both kinds, so that feedback finds the partition of its impression.
        """
        named = self._config.partition_of(group_of_request(event.request_id))
        if named is not None:
            return named
        if event.domain is None:
            raise RefusedError(
                "no_group", f"request {event.request_id[:80]!r} names no kernel group and the event names no domain"
            )
        group = self._config.group_of(event.domain)
        partition = None if group is None else self._config.partition_of(group)
        if partition is None:
            raise RefusedError("no_group", f"no kernel group answers for the domain {event.domain.key!r}")
        return partition

    def _check_time(self, time: float, now: float) -> None:
        if not math.isfinite(time) or time < 0:
            raise RefusedError("bad_time", f"time is {time}")
        ahead = time - now
        if ahead > self._config.ingest.future_s:
            hint = "; it looks like milliseconds, seconds are wanted" if time > _MILLISECONDS else ""
            raise RefusedError("future", f"time is {ahead:.1f} s ahead of the clock{hint}")

    def _check_impression(self, event: ImpressionEvent) -> None:
        if not event.items:
            raise RefusedError("no_items", "`items` is empty")
        most = self._config.ingest.max_items
        if len(event.items) > most:
            raise RefusedError("too_many_items", f"{len(event.items)} items, at most {most} are taken")
        _check_ids((event.request_id, event.user_id, *event.items))
        if len(set(event.items)) != len(event.items):
            raise RefusedError("repeated_item", "an item stands in `items` more than once")


def _decode(value: bytes) -> Event:
    try:
        return decode_event(value)
    except msgspec.ValidationError as error:
        text = str(error)
        unknown = "`$.event`" in text or "field `event`" in text
        raise RefusedError("unknown_event" if unknown else "bad_shape", text) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError("not_json", str(error)) from error


def _check_ids(ids: Iterable[str]) -> None:
    for identifier in ids:
        if not identifier or identifier.isspace():
            raise RefusedError("bad_id", "an identifier is empty")
        if len(identifier) > MAX_ID:
            raise RefusedError("bad_id", f"an identifier has {len(identifier)} characters, at most {MAX_ID} are taken")

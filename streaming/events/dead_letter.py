"""Refused outside events: reasons, cures, and the record that keeps the refused event."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "empty": "the record has no value",
        "not_json": "the value is no JSON in UTF-8",
        "unknown_event": "`event` is missing or none of item, user, impression, feedback, drift",
        "bad_shape": "a key is missing, unknown, or has a value of the wrong kind",
        "bad_id": "an identifier is empty or longer than 512 characters",
        "bad_time": "`time` is no time: negative, or not finite",
        "future": "`time` lies further in the future than ingest.future_s",
        "unsigned": "the request id carries no signature of access.request_id_secrets, nor a beginning of unsigned_ids",
        "no_items": "an impression shows no item",
        "repeated_item": "an impression shows an item twice",
        "too_many_items": "an impression shows more items than ingest.max_items",
        "bad_query": "an impression's query is blank or longer than 512 characters",
        "bad_announcement": "name, kind or domain of a drift announcement is empty, too long or unreadable",
        "no_group": "neither the request id nor the domain names a kernel group",
        "too_large": "the record, or the impression with its representations, is larger than a record may be",
        "unreadable": "a batch of records cannot be unpacked",
        "not_represented": "the impression could not be represented",
        "not_written": "the feature store refuses this profile and takes others",
        "failed": "reading, routing or writing it raised an unexpected error",
    }
)
"""Reasons for refusing an event: short stable names, each with its meaning."""

_SENDER = "mend what its sender sends, and let it send the event again"
_THEN_REPLAY = "then `driftline dead-letters replay --reason"

CURES: Mapping[str, str] = MappingProxyType(
    {
        "empty": "nothing: a record without a value carries no event",
        "not_json": _SENDER,
        "unknown_event": _SENDER,
        "bad_shape": _SENDER,
        "bad_id": _SENDER,
        "bad_time": _SENDER,
        "future": f"set the sender's clock, and send seconds rather than milliseconds: {_SENDER}",
        "no_items": _SENDER,
        "repeated_item": _SENDER,
        "too_many_items": f"let the sender show less, or raise ingest.max_items, {_THEN_REPLAY} too_many_items`",
        "bad_query": _SENDER,
        "bad_announcement": _SENDER,
        "unsigned": f"name the prefix in access.unsigned_ids or the secret in access.request_id_secrets, {_THEN_REPLAY}"
        " unsigned`; nothing for a forgery",
        "no_group": f"add the group or domain to the configuration, {_THEN_REPLAY} no_group`; or {_SENDER}",
        "too_large": f"show fewer items in one impression, or send shorter texts: {_SENDER}",
        "unreadable": "look for damage on the broker's disk or a sender with a codec of its own, and send them again",
        "not_represented": f"mostly the backbone is missing: mend it, {_THEN_REPLAY} not_represented`",
        "not_written": _SENDER,
        "failed": f"report it with the detail; with a mended version {_THEN_REPLAY} failed`",
    }
)
"""The cure for each reason."""


class RefusedError(Exception):
    """An event is refused; the stream goes on without it."""

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS, reason
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    @classmethod
    def unforeseen(cls, error: Exception) -> RefusedError:
        """The refusal of a record whose handling raised the unexpected `error`."""
        return cls("failed", f"{type(error).__name__}: {error}"[:2_000])


class DeadLetter(msgspec.Struct, frozen=True):
    """A refused record as a whole, with the reason and its origin."""

    reason: str
    """A short stable name, one of `REASONS`."""
    detail: str
    topic: str
    partition: int
    offset: int
    time: float
    """Broker time of the refusal, as far as it is known, seconds."""
    attempts: int
    value: bytes
    """The record's value (base64 in JSON)."""
    cure: str = ""
    """The cure, one of `CURES`."""

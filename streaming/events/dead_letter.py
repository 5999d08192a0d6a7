"""Outside events that are refused: the reasons, and the record that keeps what was refused."""

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
        "unsigned": "the request id carries no signature of doors.request_id_secrets, nor a beginning of unsigned_ids",
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
"""Why an event is refused: short stable names, each with its meaning."""


class RefusedError(Exception):
    """An event that the stream goes on without."""

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS, reason
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that was refused, whole, with the reason and where it came from."""

    reason: str
    """A short stable name, one of `REASONS`."""
    detail: str
    topic: str
    partition: int
    offset: int
    time: float
    """Wall-clock time of the refusal."""
    attempts: int
    value: bytes
    """The record as it was (base64 in JSON)."""

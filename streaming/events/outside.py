"""Events that other systems send: JSON, one event per record of `interactions`, or posted to a scorer."""

from __future__ import annotations

from typing import Literal

import msgspec

from model.encoding.domain import Domain
from model.encoding.spelling import FieldValue

FeedbackKind = Literal["click", "conversion"]
DriftPhase = Literal["begins", "full", "ends"]
Facet = Literal["scene", "region", "period"]


class ItemEvent(msgspec.Struct, frozen=True, tag="item", tag_field="event", forbid_unknown_fields=True):
    """An item was added or changed."""

    item_id: str
    time: float
    text: str = ""
    fields: dict[str, FieldValue] = {}


class UserEvent(msgspec.Struct, frozen=True, tag="user", tag_field="event", forbid_unknown_fields=True):
    """A user was added or changed."""

    user_id: str
    time: float
    fields: dict[str, FieldValue] = {}


class ImpressionEvent(msgspec.Struct, frozen=True, tag="impression", tag_field="event", forbid_unknown_fields=True):
    """Another system showed these items, best first, to this user. The scorer logs its own impressions."""

    request_id: str
    time: float
    user_id: str
    items: list[str]
    domain: Domain = Domain()
    query: str = ""
    """The query that the user entered; ignored by a backbone that reads no queries."""


class FeedbackEvent(msgspec.Struct, frozen=True, tag="feedback", tag_field="event", forbid_unknown_fields=True):
    """The user acted on one item of a request. Finds its group by the request id, else by `domain`."""

    request_id: str
    item_id: str
    time: float
    kind: FeedbackKind = "click"
    domain: Domain | None = None


class DriftEvent(msgspec.Struct, frozen=True, tag="drift", tag_field="event", forbid_unknown_fields=True):
    """A change of users' behaviour begins, has full strength, or ends, as somebody announces. Nothing learns from it.

    `name` and `kind` together identify the change; the newest announcement about it counts.
    """

    name: str
    kind: str
    """Sort of change, a short word; the scripts use taste, popularity, new_items and so on."""
    phase: DriftPhase
    time: float
    domain: dict[Facet, list[str]] = {}
    """Facets and values that it is limited to; empty for all domains."""
    returns: bool = False
    """Whether the earlier behaviour returns when it ends."""
    recorded: float | None = None
    """The same moment in the recording's time, if a recording is replayed."""


BOM = b"\xef\xbb\xbf"
"""UTF-8's byte order mark, which some programs write before their JSON."""

Event = ItemEvent | UserEvent | ImpressionEvent | FeedbackEvent | DriftEvent


_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def decode_event(data: bytes) -> Event:
    """Decodes one outside event; a leading byte order mark is ignored.

    Raises msgspec.ValidationError (wrong shape), msgspec.DecodeError (not JSON), UnicodeDecodeError (not UTF-8) or
    RecursionError (nested too deep).
    """
    return _decoder.decode(data.removeprefix(BOM))


def json_fault(error: Exception) -> str:
    """What is wrong with JSON that the parser refuses, with a cure if the parser's own message is misleading."""
    text = str(error)
    # The parser looks for the second half of a surrogate pair past the end, and then reports truncation.
    if text == "Input data was truncated":
        return "the JSON is truncated: it was cut short, or ends in half a surrogate pair (\\ud800 to \\udfff)"
    return text


def encode_event(event: Event) -> bytes:
    """An outside event as JSON."""
    return msgspec.json.encode(event)


def event_key(event: Event) -> bytes:
    """The Kafka key: events about the same user, item or request share a partition and so keep their order."""
    match event:
        case ItemEvent():
            return event.item_id.encode()
        case UserEvent():
            return event.user_id.encode()
        case ImpressionEvent() | FeedbackEvent():
            return event.request_id.encode()
        case DriftEvent():
            return event.name.encode()

"""Every event of the system: JSON on the outside (`interactions`), MessagePack inside (`traffic`).

Times are event times: seconds since the epoch, UTC. Identifiers are opaque strings.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.encoding.domain import Domain
from model.encoding.spelling import FieldValue

FeedbackKind = Literal["click", "conversion"]
DriftPhase = Literal["begins", "full", "ends"]
Facet = Literal["scene", "region", "period"]
Payload = Literal["x", "live", "content", "frozen_logit", "live_logit"]
PAYLOADS: tuple[Payload, ...] = ("x", "live", "content", "frozen_logit", "live_logit")


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


class FeedbackEvent(msgspec.Struct, frozen=True, tag="feedback", tag_field="event", forbid_unknown_fields=True):
    """The user acted on one item of a request. Finds its group by the request id, else by `domain`."""

    request_id: str
    item_id: str
    time: float
    kind: FeedbackKind = "click"
    domain: Domain | None = None


class DriftEvent(msgspec.Struct, frozen=True, tag="drift", tag_field="event", forbid_unknown_fields=True):
    """Something that changes what users do begins, is at full strength, or ends. Nothing is learned from it.

    `name` and `kind` together say which; of two announcements about the same the newer counts.
    """

    name: str
    kind: str
    """What sort of change, a short word: the scripts say taste, popularity, new_items and so on."""
    phase: DriftPhase
    time: float
    domain: dict[Facet, list[str]] = {}
    """Facets and values it is confined to; empty for all domains."""
    returns: bool = False
    """Whether what was before comes back when it ends."""
    recorded: float | None = None
    """The same moment in recorded time, if a recording is replayed."""


Event = ItemEvent | UserEvent | ImpressionEvent | FeedbackEvent | DriftEvent


class ServedImpression(msgspec.Struct, frozen=True, tag="i", array_like=True):
    """What was served, with all that training needs: no second feature read, no training/serving skew.

    Arrays are the raw bytes of C-ordered little-endian numpy arrays over the `n` items.
    """

    request_id: str
    time: float
    user_id: str
    domain: Domain
    items: list[str]
    fingerprint: str
    """Fingerprint of the backbone that made `x`."""
    kernel_version: int
    """Version of the kernel that made `p_live`; 0 is the identity."""
    x: bytes
    """Fused representation, float16, `(n, d)`."""
    live: bytes
    """Live drift features T, float32, `(n, k)`."""
    content: bytes
    """Item content vectors, float16, `(n, c)`: what the live features of user and domain are made of."""
    frozen_logit: bytes
    """Logit of the frozen arm, float32, `(n,)`."""
    live_logit: bytes
    """Logit of the live arm, float32, `(n,)`."""

    def array(self, name: Payload) -> NDArray[np.float32]:
        """The named payload as float32, `(n, width)`, or `(n,)` for the logits. Raises ValueError on a wrong size."""
        half = name in ("x", "content")
        flat = np.frombuffer(getattr(self, name), dtype="<f2" if half else "<f4").astype(np.float32, copy=False)
        if name.endswith("logit"):
            if flat.size != len(self.items):
                raise ValueError(
                    f"served impression {self.request_id!r}: {name} has {flat.size} values for {len(self.items)} items"
                )
            return flat
        return flat.reshape(len(self.items), -1)


class ServedFeedback(msgspec.Struct, frozen=True, tag="f", array_like=True):
    """Feedback on its way to the join."""

    request_id: str
    item_id: str
    time: float
    kind: FeedbackKind = "click"


class Tick(msgspec.Struct, frozen=True, tag="t", array_like=True):
    """Event time goes on although no traffic comes: lets the last windows close."""

    time: float


Traffic = ServedImpression | ServedFeedback | Tick


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that was refused, whole, with the reason and where it came from."""

    reason: str
    """A short stable name, one of `streaming.ingest.REASONS`."""
    detail: str
    topic: str
    partition: int
    offset: int
    time: float
    """Wall-clock time of the refusal."""
    attempts: int
    value: bytes
    """The record as it was (base64 in JSON)."""


_event_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
_traffic_decoder: msgspec.msgpack.Decoder[Traffic] = msgspec.msgpack.Decoder(Traffic)
_traffic_encoder = msgspec.msgpack.Encoder()


def decode_event(data: bytes) -> Event:
    """One outside event.

    Raises msgspec.ValidationError (wrong shape), msgspec.DecodeError (not JSON) or UnicodeDecodeError (not UTF-8).
    """
    return _event_decoder.decode(data)


def encode_event(event: Event) -> bytes:
    """An outside event as JSON."""
    return msgspec.json.encode(event)


def decode_traffic(data: bytes) -> Traffic:
    """One inside event. Raises msgspec.DecodeError."""
    return _traffic_decoder.decode(data)


def encode_traffic(event: Traffic) -> bytes:
    """An inside event as MessagePack."""
    return _traffic_encoder.encode(event)

"""Records between the processes: MessagePack, topic `traffic`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Literal, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.encoding.domain import Domain
from streaming.events.outside import FeedbackKind

Arm = Literal["live", "frozen", "other"]
"""The arm whose scores ordered what was served; `other` is another system."""
FloatPayload = Literal[
    "x",
    "live",
    "content",
    "frozen_logit",
    "live_logit",
    "cvr_live",
    "cvr_frozen_logit",
    "cvr_live_logit",
    "propensity",
]
Payload = FloatPayload | Literal["values"]
PAYLOADS: tuple[Payload, ...] = ("x", "live", "content", "values", "frozen_logit", "live_logit")
CONVERSION_PAYLOADS: tuple[FloatPayload, ...] = ("cvr_live", "cvr_frozen_logit", "cvr_live_logit")

_DTYPES: Mapping[Payload, str] = MappingProxyType(
    {
        **dict.fromkeys(("live", "frozen_logit", "live_logit", *CONVERSION_PAYLOADS, "propensity"), "<f4"),
        **dict.fromkeys(("x", "content"), "<f2"),
        "values": "<i2",
    }
)
_SINGLE = frozenset({"frozen_logit", "live_logit", "cvr_frozen_logit", "cvr_live_logit", "propensity"})
"""Payloads with one number per item."""


class ServedImpression(msgspec.Struct, frozen=True, tag="i", array_like=True, gc=False):
    """What was served, with everything that training needs. Features are not read again, so training and serving agree.

    Many of them are open at a time, and none is part of a cycle, so the garbage collector need not examine them.

    Arrays are the raw bytes of C-ordered little-endian NumPy arrays over the `n` items; `of` writes them and `array`
    reads them.
    """

    request_id: str
    time: float
    user_id: str
    domain: Domain
    items: list[str]
    fingerprint: str
    """Fingerprint of the backbone that made `x`."""
    kernel_version: int
    """Version of the kernel that made `live_logit`; 0 is the identity."""
    arm: Arm
    """The arm whose scores ordered the items."""
    x: bytes
    """Fused representation, float16, `(n, d)`."""
    live: bytes
    """Live features, float32, `(n, k)`."""
    content: bytes
    """Content vectors of the items, float16, `(n, c)`, which the live features of user and domain are made of."""
    values: bytes
    """Values of the items' crossed fields, int16, `(n, S)`; -1 is an empty slot."""
    frozen_logit: bytes
    """Logit of the frozen arm, float32, `(n,)`."""
    live_logit: bytes
    """Logit of the live arm, float32, `(n,)`."""

    @property
    def payload_bytes(self) -> int:
        """Bytes of all arrays; spelled out, because every impression is measured when it is opened."""
        vectors = len(self.x) + len(self.live) + len(self.content) + len(self.values)
        return vectors + len(self.frozen_logit) + len(self.live_logit)

    @classmethod
    def of(
        cls,
        *,
        request_id: str,
        time: float,
        user_id: str,
        domain: Domain,
        items: list[str],
        fingerprint: str,
        kernel_version: int,
        arm: Arm = "live",
        arrays: Mapping[Payload, NDArray[Any]],
        place: int | None = None,
    ) -> ServedImpression:
        """The impression with `arrays` encoded; their rows are the `items`, in order.

        With the arrays of `CONVERSION_PAYLOADS` it is a `ConvertingImpression`, with `propensity` and the `place` of
        the drawn item an `ExploredImpression`, with all of them an `ExploredConvertingImpression`.
        """
        converts, explores = all(name in arrays for name in CONVERSION_PAYLOADS), place is not None
        names: list[Payload] = [*PAYLOADS, *(CONVERSION_PAYLOADS if converts else ())]
        names += ["propensity"] if explores else []
        return _KINDS[converts, explores](
            request_id,
            time,
            user_id,
            domain,
            items,
            fingerprint,
            kernel_version,
            arm,
            *(arrays[name].astype(_DTYPES[name], copy=False).tobytes() for name in names),
            *(() if place is None else (place,)),
        )

    @overload
    def array(self, name: Literal["values"]) -> NDArray[np.int16]: ...

    @overload
    def array(self, name: FloatPayload) -> NDArray[np.float32]: ...

    def array(self, name: Payload) -> NDArray[np.float32] | NDArray[np.int16]:
        """The named payload, `(n, width)`, or `(n,)` for the logits: `values` as int16, all others as float32.

        Raises ValueError on a wrong size.
        """
        flat: NDArray[Any] = np.frombuffer(getattr(self, name), dtype=_DTYPES[name])
        flat = flat.astype(np.int16 if name == "values" else np.float32, copy=False)
        if name in _SINGLE:
            if flat.size != len(self.items):
                raise ValueError(
                    f"served impression {self.request_id!r}: {name} has {flat.size} values for {len(self.items)} items"
                )
            return flat
        return flat.reshape(len(self.items), -1)

    @overload
    @staticmethod
    def joined(records: Sequence[ServedImpression], name: Literal["values"]) -> NDArray[np.int16]: ...

    @overload
    @staticmethod
    def joined(records: Sequence[ServedImpression], name: FloatPayload) -> NDArray[np.floating]: ...

    @staticmethod
    def joined(records: Sequence[ServedImpression], name: Payload) -> NDArray[np.floating] | NDArray[np.int16]:
        """The named payload of all `records` as one writable array with its stored type; each record must have the
        right size."""
        flat: NDArray[Any] = np.frombuffer(bytearray().join(map(attrgetter(name), records)), dtype=_DTYPES[name])
        return flat if name in _SINGLE else flat.reshape(sum(len(record.items) for record in records), -1)


class ConvertingImpression(ServedImpression, frozen=True, tag="c", array_like=True, gc=False):
    """An impression by a backbone with conversions, with the additional fields that the conversion task learns from."""

    cvr_live: bytes
    """Live features of conversions, float32, `(n, k)`."""
    cvr_frozen_logit: bytes
    """Logit of a conversion given a click by the frozen arm, float32, `(n,)`."""
    cvr_live_logit: bytes
    """Logit of a conversion given a click by the live arm, float32, `(n,)`."""

    @property
    def payload_bytes(self) -> int:
        """Bytes of all arrays."""
        of_conversions = len(self.cvr_live) + len(self.cvr_frozen_logit) + len(self.cvr_live_logit)
        return super().payload_bytes + of_conversions


class ExploredImpression(ServedImpression, frozen=True, tag="e", array_like=True, gc=False):
    """An impression whose first place was drawn by chance, with what off-policy estimates need.

    It is a record type of its own, so that an impression without exploration is what it has always been.
    """

    propensity: bytes
    """Probability of each item to be drawn for the first place, float32, `(n,)`; they sum to 1."""
    place: int
    """Place by score of the first item; 0 is the best. The other items are in the order of their scores."""

    @property
    def payload_bytes(self) -> int:
        """Bytes of all arrays."""
        return super().payload_bytes + len(self.propensity)


class ExploredConvertingImpression(ConvertingImpression, frozen=True, tag="ec", array_like=True, gc=False):
    """The same by a backbone with conversions."""

    propensity: bytes
    place: int

    @property
    def payload_bytes(self) -> int:
        """Bytes of all arrays."""
        return super().payload_bytes + len(self.propensity)


EXPLORED = (ExploredImpression, ExploredConvertingImpression)
"""The kinds whose first place was drawn."""
_KINDS: Mapping[tuple[bool, bool], type[ServedImpression]] = MappingProxyType(
    {
        (False, False): ServedImpression,
        (True, False): ConvertingImpression,
        (False, True): ExploredImpression,
        (True, True): ExploredConvertingImpression,
    }
)
"""The kinds of impressions: whether they have the fields of conversions, and whether their first place was drawn."""


class ServedFeedback(msgspec.Struct, frozen=True, tag="f", array_like=True, gc=False):
    """Feedback that ingest has routed to the join."""

    request_id: str
    item_id: str
    time: float
    kind: FeedbackKind = "click"


class Tick(msgspec.Struct, frozen=True, tag="t", array_like=True):
    """Advances event time while there is no traffic, so that the last windows close."""

    time: float


class Progress(msgspec.Struct, frozen=True, tag="p", array_like=True):
    """How far ingest has read `interactions`. A window closes only after that, else unread clicks become negatives.

    Everything appended to partition k of `interactions` before `read[k]` is in `traffic` before this record.
    """

    read: dict[int, float]
    """Broker time by partition of `interactions`, seconds. Other records report the partitions missing here."""
    partitions: int
    """Number of partitions of `interactions`."""


class LearningOrder(msgspec.Struct, frozen=True, tag="o", array_like=True):
    """From this record on the group learns, or stops. It is in the group's own log, so that a replay does the same."""

    learning: bool
    by: str


Traffic = (
    ServedImpression
    | ConvertingImpression
    | ExploredImpression
    | ExploredConvertingImpression
    | ServedFeedback
    | Tick
    | Progress
    | LearningOrder
)

_decoder: msgspec.msgpack.Decoder[Traffic] = msgspec.msgpack.Decoder(Traffic)
_encoder = msgspec.msgpack.Encoder()


def decode_traffic(data: bytes) -> Traffic:
    """Decodes one record. Raises msgspec.DecodeError for anything else, including errors of other types in decoding."""
    try:
        return _decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"{type(error).__name__}: {error}") from error


def encode_traffic(event: Traffic) -> bytes:
    """A record as MessagePack."""
    return _encoder.encode(event)

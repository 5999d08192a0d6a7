"""All records that pass between the processes, and the rules for events from outside.

`outside` holds the events that others send (JSON, topic `interactions`), `traffic` the records between the processes
(MessagePack, topic `traffic`), `dead_letter` refused records with their reasons, `rules` the rules for outside events,
`decisions` decisions about kernels and operators' orders (JSON), `status` the state of a group (JSON).
Times are event times: seconds since the epoch, UTC. Identifiers are opaque strings.
"""

from model.encoding.spelling import FieldValue
from streaming.events.dead_letter import CURES, REASONS, DeadLetter, RefusedError
from streaming.events.outside import (
    DriftEvent,
    DriftPhase,
    Event,
    Facet,
    FeedbackEvent,
    FeedbackKind,
    ImpressionEvent,
    ItemEvent,
    UserEvent,
    decode_event,
    encode_event,
    event_key,
)
from streaming.events.traffic import (
    CONVERSION_PAYLOADS,
    EXPLORED,
    PAYLOADS,
    Arm,
    ConvertingImpression,
    ExploredConvertingImpression,
    ExploredImpression,
    LearningOrder,
    Payload,
    Progress,
    ServedFeedback,
    ServedImpression,
    Tick,
    Traffic,
    decode_traffic,
    encode_traffic,
)

__all__ = [
    "CONVERSION_PAYLOADS",
    "CURES",
    "EXPLORED",
    "PAYLOADS",
    "REASONS",
    "Arm",
    "ConvertingImpression",
    "DeadLetter",
    "DriftEvent",
    "DriftPhase",
    "Event",
    "ExploredConvertingImpression",
    "ExploredImpression",
    "Facet",
    "FeedbackEvent",
    "FeedbackKind",
    "FieldValue",
    "ImpressionEvent",
    "ItemEvent",
    "LearningOrder",
    "Payload",
    "Progress",
    "RefusedError",
    "ServedFeedback",
    "ServedImpression",
    "Tick",
    "Traffic",
    "UserEvent",
    "decode_event",
    "decode_traffic",
    "encode_event",
    "encode_traffic",
    "event_key",
]

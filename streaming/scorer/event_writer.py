"""Takes outside events over HTTP and writes them to `interactions`, acknowledged."""

from __future__ import annotations

import asyncio

import msgspec
from aiokafka.errors import KafkaError

from streaming.events import DriftEvent, Event, FeedbackEvent, ImpressionEvent, ItemEvent, UserEvent, encode_event
from streaming.scorer.producer import KeptProducer
from streaming.scorer.schema import RequestRefused
from streaming.topics import INTERACTION_BYTES

_HEADROOM = 1_024  # bytes of a record batch beside the event itself

_decoder: msgspec.json.Decoder[Event | list[Event]] = msgspec.json.Decoder(Event | list[Event])


def decode_events(body: bytes) -> list[Event]:
    """One event or a list of them; either all are right or none is taken. Raises RequestRefused."""
    try:
        decoded = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise RequestRefused("invalid_event", str(error)) from None
    except msgspec.DecodeError as error:
        raise RequestRefused("malformed_json", str(error)) from None
    events = decoded if isinstance(decoded, list) else [decoded]
    if not events:
        raise RequestRefused("no_events", "the list of events is empty")
    return events


def event_key(event: Event) -> bytes:
    """The Kafka key: what belongs together stays in order."""
    match event:
        case ItemEvent():
            return event.item_id.encode()
        case UserEvent():
            return event.user_id.encode()
        case ImpressionEvent() | FeedbackEvent():
            return event.request_id.encode()
        case DriftEvent():
            return event.name.encode()


class EventWriter:
    """Writes events and waits for the broker's acknowledgement, for a bounded time and a bounded number."""

    def __init__(self, producer: KeptProducer, *, topic: str, timeout_s: float, max_waiting: int = 10_000) -> None:
        self._producer = producer
        self._topic = topic
        self._timeout_s = timeout_s
        self._max_waiting = max_waiting
        self._waiting = 0

    async def write(self, events: list[Event]) -> None:
        """Returns once every event is acknowledged.

        Raises RequestRefused: 422 for an event too large, 503 if the broker does not acknowledge in time. Then some
        may be written all the same: sending all of them again is safe, profiles and labels take no harm from it.
        """
        if self._waiting + len(events) > self._max_waiting:
            raise RequestRefused(
                "busy", f"{self._waiting} events wait for the broker already: send again in a second", status=503
            )
        self._waiting += len(events)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._send(events)
        except TimeoutError:
            raise RequestRefused(
                "broker_away",
                f"the broker has not acknowledged within {self._timeout_s:g} s: send the same events again later",
                status=503,
            ) from None
        finally:
            self._waiting -= len(events)

    async def _send(self, events: list[Event]) -> None:
        records = [(event_key(event), encode_event(event)) for event in events]
        for index, (key, value) in enumerate(records):
            if len(key) + len(value) > INTERACTION_BYTES - _HEADROOM:
                raise RequestRefused(
                    "event_too_large", f"event {index} has {len(value)} bytes, the topic takes {INTERACTION_BYTES}"
                )
        producer = await self._producer.get()
        try:
            sent = [await producer.send(self._topic, value, key=key) for key, value in records]
            await asyncio.gather(*sent)
        except KafkaError as error:
            await self._producer.replace(producer)
            raise RequestRefused(
                "broker_refused", f"{type(error).__name__}: {error}: send the same events again", status=503
            ) from None

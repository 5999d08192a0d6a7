"""Takes outside events over HTTP and writes them to `interactions`, with acknowledgement."""

from __future__ import annotations

import asyncio

import msgspec
from aiokafka.errors import KafkaError

from streaming.events import Event, FeedbackEvent, ImpressionEvent, RefusedError, encode_event, event_key
from streaming.events.rules import EventRules
from streaming.scorer.body import decode_json
from streaming.scorer.producer import RestartingProducer
from streaming.scorer.schema import RequestRefused
from streaming.topics import INTERACTION_BYTES

_HEADROOM = 1_024  # bytes of a record batch besides the event itself

_decoder: msgspec.json.Decoder[Event | list[Event]] = msgspec.json.Decoder(Event | list[Event])


def decode_events(body: bytes, rules: EventRules, now: float, most: int) -> list[Event]:
    """Decodes one event or a list of at most `most`, all valid at wall-clock time `now`, seconds. Raises
    RequestRefused.

    Events that ingest would refuse are refused here (400, with ingest's reason), where the sender still reads the
    answer.
    """
    decoded = decode_json(_decoder, body, "invalid_event")
    events = decoded if isinstance(decoded, list) else [decoded]
    if not events:
        raise RequestRefused("no_events", "the list of events is empty")
    if len(events) > most:
        raise RequestRefused(
            "too_many_events",
            f"{len(events)} events, at most {most} are taken at once: send several lists, or raise access.max_events",
            413,
        )
    for index, event in enumerate(events):
        try:
            rules.check(event, now)
            if isinstance(event, ImpressionEvent | FeedbackEvent):
                rules.group(event)
        except RefusedError as refused:
            position = f" - at `$[{index}]`" if isinstance(decoded, list) else ""
            raise RequestRefused(refused.reason, refused.detail + position, 400) from None
    return events


class EventWriter:
    """Writes events and waits for the broker's acknowledgement, with limits on the time and the number waiting."""

    def __init__(self, producer: RestartingProducer, *, topic: str, timeout_s: float, max_waiting: int) -> None:
        """`max_waiting`: events that may wait for the broker, no fewer than one call may contain."""
        self._producer = producer
        self._topic = topic
        self._timeout_s = timeout_s
        self._max_waiting = max_waiting
        self._waiting = 0

    async def write(self, events: list[Event]) -> None:
        """Returns after every event is acknowledged.

        Raises RequestRefused: 422 for an event that is too large, 503 if the broker does not acknowledge in time. Some
        events may be written all the same. Sending all of them again is safe, because repeated profiles and labels do
        no harm (docs/decisions/0044).
        """
        if self._waiting + len(events) > self._max_waiting:
            raise RequestRefused("busy", f"{self._waiting} events wait for the broker: send again in a second", 503)
        self._waiting += len(events)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._send(events)
        except TimeoutError:
            raise RequestRefused(
                "broker_away",
                f"the broker has not acknowledged within {self._timeout_s:g} s: send the same events again later",
                503,
            ) from None
        finally:
            self._waiting -= len(events)

    async def _send(self, events: list[Event]) -> None:
        """Returns when the broker has all events. Raises RequestRefused, after which some may be written."""
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
                "broker_refused", f"{type(error).__name__}: {error}: send the same events again", 503
            ) from None

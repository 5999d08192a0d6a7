"""Dead letters for operators: counting them, finding them, and sending their records again once the cause is mended.

A replay leaves two traces. The record that is sent again has a header with the reason and position of its letter, which
is kept if it is refused once more; and a note in the topic says that the letter was replayed. So a second run sends
nothing twice, and no record goes in circles (docs/decisions/0098).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError

from streaming.clients import make_producer
from streaming.config import Config
from streaming.events import DeadLetter
from streaming.topic_scan import scan

REPLAYED = "driftline-replayed"
"""Header of a record that is sent again: the reason and position of its letter."""

_FLUSH_S = 30.0
_CHUNK = 500


class DeadLetterError(Exception):
    """A letter does not exist, or its record could not be sent again; the message names the cure."""


@dataclass(frozen=True, order=True)
class LetterPosition:
    """Position of a letter in the topic of dead letters."""

    partition: int
    offset: int

    @classmethod
    def of(cls, text: str) -> LetterPosition:
        """Parses `partition:offset`, or an offset alone in partition 0. Raises ValueError."""
        partition, colon, offset = text.rpartition(":")
        if not offset.isdecimal() or (colon and not partition.isdecimal()):
            raise ValueError(f"{text!r} is no position: `driftline dead-letters list` shows positions such as 0:17")
        return cls(int(partition or 0), int(offset))

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True)
class LetterRecord:
    """A letter with its position, key and headers."""

    position: LetterPosition
    letter: DeadLetter
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def failed_the_same_way(self) -> bool:
        """Whether its record was replayed before and refused for the same reason."""
        replays = [value.decode("utf-8", "replace") for name, value in self.headers if name == REPLAYED]
        return bool(replays) and replays[-1].split(" ", 1)[0] == self.letter.reason

    def replayed_headers(self) -> list[tuple[str, bytes]]:
        """Headers for the record when it is sent again."""
        others = [header for header in self.headers if header[0] != REPLAYED]
        return [*others, (REPLAYED, f"{self.letter.reason} {self.position}".encode())]


class ReplayNote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A note in the topic that a letter's record was sent again."""

    replayed: str
    """Position of the letter."""
    time: float
    """Wall-clock time, seconds."""


@dataclass
class LetterCounts:
    """Outcome of a replay, by number of letters."""

    sent: int = 0
    already: int = 0
    """Skipped, because an earlier run sent them again."""
    same_again: int = 0
    """Skipped, because they were sent again before and refused for the same reason."""
    without_value: int = 0
    """Skipped, because the letter does not hold the record."""


@dataclass
class LettersByReason:
    """Numbers of letters in the topic, by reason."""

    number: Counter[str] = field(default_factory=Counter)
    replayed: Counter[str] = field(default_factory=Counter)
    newest: dict[str, list[LetterRecord]] = field(default_factory=dict)
    foreign: int = 0
    """Number of records that are no letters."""


def summary(config: Config, *, reason: str | None = None, newest: int = 3) -> LettersByReason:
    """Counts the letters by reason, with the last few of each. Raises TopicScanError."""
    found, done = LettersByReason(), _replayed(config)
    for record in _scan(config):
        if record is None:
            found.foreign += 1
        elif isinstance(record, LetterRecord) and reason in (None, record.letter.reason):
            name = record.letter.reason
            found.number[name] += 1
            found.replayed[name] += record.position in done
            found.newest[name] = [*found.newest.get(name, []), record][-newest:]
    return found


def letter_at(config: Config, position: LetterPosition) -> LetterRecord:
    """The letter at a position. Raises DeadLetterError, TopicScanError."""
    for record in _scan(config):
        if isinstance(record, LetterRecord) and record.position == position:
            return record
    raise DeadLetterError(
        f"there is no letter at {position} (any more): `driftline dead-letters list` shows where some are"
    )


def replay(
    config: Config, *, reason: str | None = None, positions: Collection[LetterPosition] = (), again: bool = False
) -> LetterCounts:
    """Sends the records of letters again: all of one reason, or the named ones; with `again` also the skipped ones.

    Raises DeadLetterError, TopicScanError.
    """
    counts, done = LetterCounts(), _replayed(config)
    wanted = (
        record
        for record in _scan(config)
        if isinstance(record, LetterRecord) and (record.position in positions or record.letter.reason == reason)
    )
    try:
        producer = make_producer(config.kafka)
        try:
            replayable = _replayable(wanted, done, counts, again=again)
            while chunk := list(islice(replayable, _CHUNK)):
                _send(producer, config, chunk, counts)
        finally:
            producer.close(timeout=5)
    except KafkaError as error:
        raise DeadLetterError(
            f"Kafka on {config.kafka.bootstrap} did not take a record ({error!r}); {counts.sent} were sent again"
            " before it. Run it again: nothing is sent twice that was noted"
        ) from error
    return counts


def _replayable(
    wanted: Iterable[LetterRecord], done: Collection[LetterPosition], counts: LetterCounts, *, again: bool
) -> Iterator[LetterRecord]:
    for kept in wanted:
        if not kept.letter.value:
            counts.without_value += 1
        elif kept.position in done and not again:
            counts.already += 1
        elif kept.failed_the_same_way and not again:
            counts.same_again += 1
        else:
            yield kept


def _send(producer: KafkaProducer, config: Config, chunk: Iterable[LetterRecord], counts: LetterCounts) -> None:
    """Sends records first and notes afterwards: a crash in between causes a second delivery, which does no harm."""
    topics = config.topics
    sent = [
        (kept, producer.send(topics.interactions, kept.letter.value, kept.key, kept.replayed_headers()))
        for kept in chunk
    ]
    producer.flush(timeout=_FLUSH_S)
    for kept, future in sent:
        future.get(timeout=0)
        note = msgspec.json.encode(ReplayNote(str(kept.position), time.time()))
        producer.send(topics.dead_letters, note, partition=kept.position.partition)
        counts.sent += 1
    producer.flush(timeout=_FLUSH_S)


def _replayed(config: Config) -> set[LetterPosition]:
    return {LetterPosition.of(note.replayed) for note in _scan(config) if isinstance(note, ReplayNote)}


def _scan(config: Config) -> Iterator[LetterRecord | ReplayNote | None]:
    """All letters and notes up to the topic's present end, in the order of each partition; None for other records."""
    return map(_read, scan(config, config.topics.dead_letters))


def _read(record: Any) -> LetterRecord | ReplayNote | None:
    value = record.value or b""
    try:
        letter = msgspec.json.decode(value, type=DeadLetter)
    except (msgspec.MsgspecError, RecursionError):
        try:
            return msgspec.json.decode(value, type=ReplayNote)
        except (msgspec.MsgspecError, RecursionError):
            return None
    headers = tuple((name, text or b"") for name, text in record.headers or ())
    return LetterRecord(LetterPosition(record.partition, record.offset), letter, record.key, headers)

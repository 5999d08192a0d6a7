"""Dead letters as an operator handles them: read to the end, found, and sent again once their cause is mended.

A replay leaves two traces. The record that is sent again carries a header with the reason and place of its letter,
which stays with it into the next letter if it is refused once more; and a note beside the letter says that it was sent.
So a second run sends nothing twice, and nothing goes round for ever (docs/decisions/0098).
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
"""Header of a record that is sent again: the reason of its letter, and where that stands."""

_FLUSH_S = 30.0
_CHUNK = 500


class DeadLetterError(Exception):
    """A letter is not there, or its record could not be sent again; the message names the cure."""


@dataclass(frozen=True, order=True)
class LetterPosition:
    """Where a letter stands in the topic of dead letters."""

    partition: int
    offset: int

    @classmethod
    def of(cls, text: str) -> LetterPosition:
        """From `partition:offset`, or the offset alone in partition 0. Raises ValueError."""
        partition, colon, offset = text.rpartition(":")
        if not offset.isdecimal() or (colon and not partition.isdecimal()):
            raise ValueError(f"{text!r} is no position: `driftline dead-letters list` shows them as 0:17")
        return cls(int(partition or 0), int(offset))

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True)
class KeptLetter:
    """A letter with the rest of its record."""

    position: LetterPosition
    letter: DeadLetter
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def failed_the_same_way(self) -> bool:
        """Whether its record was sent again before, and refused for the same reason."""
        told = [value.decode("utf-8", "replace") for name, value in self.headers if name == REPLAYED]
        return bool(told) and told[-1].split(" ", 1)[0] == self.letter.reason

    def replayed_headers(self) -> list[tuple[str, bytes]]:
        """Headers of the record that is sent again."""
        others = [header for header in self.headers if header[0] != REPLAYED]
        return [*others, (REPLAYED, f"{self.letter.reason} {self.position}".encode())]


class ReplayNote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Beside a letter in the topic: its record was sent again."""

    replayed: str
    """Position of the letter."""
    time: float
    """Wall-clock time, seconds."""


@dataclass
class LetterCounts:
    """What a replay did with the letters that were asked for."""

    sent: int = 0
    already: int = 0
    """Sent again by an earlier run."""
    same_again: int = 0
    """Left alone: sent again before, and refused for the same reason."""
    without_value: int = 0
    """Left alone: the letter does not hold the record."""


@dataclass
class LettersByReason:
    """What stands in the topic."""

    number: Counter[str] = field(default_factory=Counter)
    replayed: Counter[str] = field(default_factory=Counter)
    newest: dict[str, list[KeptLetter]] = field(default_factory=dict)
    foreign: int = 0
    """Records that are no letters."""


def summary(config: Config, *, reason: str | None = None, newest: int = 3) -> LettersByReason:
    """Counts the letters by reason, with the last few of each. Raises TopicScanError."""
    found, done = LettersByReason(), _replayed(config)
    for record in _scan(config):
        if record is None:
            found.foreign += 1
        elif isinstance(record, KeptLetter) and reason in (None, record.letter.reason):
            name = record.letter.reason
            found.number[name] += 1
            found.replayed[name] += record.position in done
            found.newest[name] = [*found.newest.get(name, []), record][-newest:]
    return found


def letter_at(config: Config, position: LetterPosition) -> KeptLetter:
    """The letter that stands there. Raises DeadLetterError, TopicScanError."""
    for record in _scan(config):
        if isinstance(record, KeptLetter) and record.position == position:
            return record
    raise DeadLetterError(
        f"no letter stands at {position} (any more): `driftline dead-letters list` shows where some do"
    )


def replay(
    config: Config, *, reason: str | None = None, positions: Collection[LetterPosition] = (), again: bool = False
) -> LetterCounts:
    """Sends the records of these letters again: all of a reason, or the named ones; `again` also those left alone.

    Raises DeadLetterError, TopicScanError.
    """
    counts, done = LetterCounts(), _replayed(config)
    wanted = (
        record
        for record in _scan(config)
        if isinstance(record, KeptLetter) and (record.position in positions or record.letter.reason == reason)
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
    wanted: Iterable[KeptLetter], done: Collection[LetterPosition], counts: LetterCounts, *, again: bool
) -> Iterator[KeptLetter]:
    for kept in wanted:
        if not kept.letter.value:
            counts.without_value += 1
        elif kept.position in done and not again:
            counts.already += 1
        elif kept.failed_the_same_way and not again:
            counts.same_again += 1
        else:
            yield kept


def _send(producer: KafkaProducer, config: Config, chunk: Iterable[KeptLetter], counts: LetterCounts) -> None:
    """Records first and notes behind them: after a crash in between a record is sent twice, which does no harm."""
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


def _scan(config: Config) -> Iterator[KeptLetter | ReplayNote | None]:
    """Everything up to the present end of the topic, in the order of each partition; None for what is neither."""
    return map(_read, scan(config, config.topics.dead_letters))


def _read(record: Any) -> KeptLetter | ReplayNote | None:
    value = record.value or b""
    try:
        letter = msgspec.json.decode(value, type=DeadLetter)
    except (msgspec.MsgspecError, RecursionError):
        try:
            return msgspec.json.decode(value, type=ReplayNote)
        except (msgspec.MsgspecError, RecursionError):
            return None
    headers = tuple((name, text or b"") for name, text in record.headers or ())
    return KeptLetter(LetterPosition(record.partition, record.offset), letter, record.key, headers)

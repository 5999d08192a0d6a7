"""A group's owner whose topics are lists in memory, and that is killed where a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import pytest

from features.live.features import LiveRow
from streaming.group.machine import GroupMachine
from streaming.kernel_log.closed import stored_segments
from streaming.kernel_log.cuts import ChosenCut, choose
from streaming.kernel_log.errors import KernelLogError
from streaming.kernel_log.keys import mark_key
from streaming.kernel_log.reader import newest_version, stored_rows
from streaming.kernel_log.snapshot import decode_snapshot
from streaming.kernel_log.writer import Transaction
from streaming.processor import commit
from streaming.processor.commit import Cut, CutPlace, CutState, GroupCommitter, SnapshotPace
from tests.streaming.group.converting import both_tasks, shop
from tests.streaming.group.restarts import RECORDS
from tests.streaming.group.tiny import BACKBONE, appended, encoded, machine

Failure = Literal["before 1", "before 2", "before 3", "inside 3", "before 4", "before 5"]
FAILURES: tuple[Failure, ...] = get_args(Failure)


TOPIC = "topic-id"


@dataclass(frozen=True)
class Story:
    """Records, and the group that takes them."""

    records: Sequence[bytes]
    new: Callable[[], GroupMachine]


SHOP_RECORDS = encoded(shop(80))
CLICKS = Story(RECORDS, machine)
SHOP = Story(SHOP_RECORDS, lambda: both_tasks(SHOP_RECORDS))
"""Of a backbone that tells conversions, some of which come a window behind their click."""


class Killed(Exception):
    """The process is gone."""


class Durable:
    """What outlives a process: the kernel log and the broker's offset. `failing` is where the next commit ends."""

    def __init__(self, story: Story = CLICKS) -> None:
        self.story = story
        self.slots: dict[int, bytes | None] = {}
        self.rows: dict[bytes | None, bytes | None] = {}
        self.kernels: list[bytes] = []
        self.offset = self.torn = 0
        self.failing: Failure | None = None

    async def write(self, transaction: Transaction) -> None:
        if self.failing == "before 3":
            raise KernelLogError("the broker is away")
        if transaction.snapshot is not None:
            self.slots[int(transaction.snapshot.key[-1:])] = transaction.snapshot.value
        self.rows |= {record.key: record.value for record in transaction.rows}
        if transaction.kernel is not None:
            self.kernels.append(transaction.kernel)
        if self.failing == "inside 3":
            raise Killed("written, but the answer did not arrive")

    def tear(self) -> None:
        """The newest snapshot cannot be read any more."""
        self.torn += 1
        slot = self.newest_slot
        assert slot is not None
        self.slots[slot] = (self.slots[slot] or b"")[:-7]

    async def store_offset(self, offset: int) -> None:
        if self.failing == "before 4":
            raise Killed
        self.offset = offset
        if self.failing == "before 5":
            raise Killed

    @property
    def chosen(self) -> ChosenCut:
        return choose("main", self.slots, self.rows.get(mark_key("main")))

    @property
    def newest_slot(self) -> int | None:
        return None if self.chosen.cut is None else 1 - self.chosen.slot

    @property
    def version(self) -> int:
        return newest_version("main", self.kernels[-1] if self.kernels else None)

    def successor(self) -> GroupMachine:
        group, cut = self.story.new(), self.chosen.cut
        if cut is not None:
            snapshot = decode_snapshot(cut.snapshot, group="main", fingerprint=BACKBONE.fingerprint)
            rows, unreadable = stored_rows({key: row for key, row in self.rows.items() if key != mark_key("main")})
            assert unreadable == 0
            group.restore(
                snapshot, rows.get("main", []), stored_segments("main", self.rows), self.chosen.rows_offset(TOPIC)
            )
        return group


class Owner:
    """A machine with its committer, on what is durable."""

    _clock = 0.0

    def __init__(self, durable: Durable) -> None:
        self.machine = durable.successor()
        self._pace = SnapshotPace(1.0, 1e9, clock=lambda: self._clock)
        resume = self.machine.position if durable.slots else None
        self.committer = GroupCommitter(
            "main",
            source=self,
            pace=self._pace,
            writer=durable,
            store_offset=durable.store_offset,
            place=CutPlace(durable.chosen.number, durable.chosen.slot, TOPIC, resume),
        )
        self._durable = durable
        self._version = max(self.machine.publisher.version, durable.version)
        self._rows: dict[tuple[str, str], LiveRow] = {}

    def feed(self, offset: int) -> None:
        record = self._durable.story.records[offset]
        self.machine.feed(offset, record, appended(record))
        self._rows |= {(row.kind, row.key): row for row in self.machine.rows.take_changed()}

    def commit(self, *, whole: bool, leaving: bool = False) -> None:
        if whole:
            self._clock += 10
        asyncio.run(self.committer.commit(leaving=leaving))

    async def cut(self, *, whole: bool) -> Cut | None:
        if self._durable.failing == "before 1":
            raise Killed
        if self.machine.recovering and whole:
            return None
        kernel = self.machine.publisher.published if self.machine.publisher.version > self._version else None
        self._version = max(self._version, self.machine.publisher.version)
        if not whole:
            return None if kernel is None else Cut(kernel, None)
        self._pace.cut()
        rows, self._rows = list(self._rows.values()), {}
        machine, closed = self.machine, self.machine.take_closed()
        return Cut(kernel, CutState(machine.snapshot(), rows, machine.rows_offset, machine.first_keys, closed))


@contextmanager
def encoding_fails(failing: bool) -> Iterator[None]:
    """The state cannot be written down meanwhile, if `failing`."""
    with pytest.MonkeyPatch.context() as patch:
        if failing:

            def encode(_cut: Cut, _place: CutPlace) -> Transaction:
                raise Killed

            patch.setattr(commit, "encode", encode)
        yield


def fail(owner: Owner, durable: Durable, failure: Failure) -> None:
    """A commit that ends at `failure`."""
    durable.failing = failure
    with encoding_fails(failure == "before 2"), pytest.raises((Killed, KernelLogError)):
        owner.commit(whole=True)
    durable.failing = None


def play(
    commits: set[int],
    failures: dict[int, Failure],
    kernels: Collection[int] = (),
    torn: bool = False,
    story: Story = CLICKS,
) -> tuple[Owner, Durable]:
    """Feeds all records; commits and fails behind the given ones, a failure once each.

    Behind `kernels` a kernel alone is committed. `torn`: the newest snapshot cannot be read after a failure.
    """
    durable, failures = Durable(story), dict(failures)
    owner, offset = Owner(durable), 0
    while offset < len(story.records):
        owner.feed(offset)
        if offset in commits:
            owner.commit(whole=True)
        elif offset in kernels:
            owner.commit(whole=False)
        if offset in failures and not owner.machine.recovering:
            fail(owner, durable, failures.pop(offset))
            if torn and len(durable.slots) == 2 and not durable.chosen.refused:
                durable.tear()
            owner, offset = Owner(durable), durable.offset
            assert offset <= owner.machine.position, "the broker's offset must not lead the state"
        else:
            offset += 1
    return owner, durable

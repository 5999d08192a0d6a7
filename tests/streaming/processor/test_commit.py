"""The commit: five steps, the same as on the page, and no failure between them loses or doubles an example."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.live.features import LiveRow
from model.kernel.record import pack_kernel, read_info
from streaming.kernel_log.closed import stored_segments
from streaming.kernel_log.cuts import ChosenCut, choose
from streaming.kernel_log.errors import KernelLogError, OwnershipLostError
from streaming.kernel_log.keys import mark_key
from streaming.kernel_log.reader import newest_version, stored_rows
from streaming.kernel_log.snapshot import decode_snapshot
from streaming.kernel_log.writer import Transaction
from streaming.processor import commit
from streaming.processor.commit import Cut, CutPlace, CutState, GroupCommitter, SnapshotPace, UnfinishedCommitError
from streaming.processor.machine import GroupMachine
from streaming.processor.owned_group import GroupLoader
from tests.streaming.processor.converting import both_tasks, shop
from tests.streaming.processor.restarts import RECORDS, REFERENCE, same
from tests.streaming.processor.tiny import BACKBONE, appended, encoded, machine

PAGE = Path(__file__).resolve().parents[3] / "docs" / "recovery.md"
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
    with pytest.MonkeyPatch.context() as patch:
        if failing:

            def encode(_cut: Cut, _place: CutPlace) -> Transaction:
                raise Killed

            patch.setattr(commit, "encode", encode)
        yield


def fail(owner: Owner, durable: Durable, failure: Failure) -> None:
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


@pytest.fixture(scope="module")
def shop_alone() -> Owner:
    """Conversions without a failure."""
    return play(set(), {}, story=SHOP)[0]


@pytest.mark.parametrize("failure", ["before 3", "inside 3", "before 4"])
@pytest.mark.parametrize("torn", [False, True])
def test_a_failure_neither_loses_nor_duplicates_conversions(failure: Failure, torn: bool, shop_alone: Owner) -> None:
    commits, failures = set(range(0, len(SHOP_RECORDS), 40)), dict.fromkeys((130, 300), failure)
    owner, _ = play(commits, failures, torn=torn, story=SHOP)
    assert same(owner.machine, shop_alone.machine)
    assert owner.machine.publisher.version == shop_alone.machine.publisher.version


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_between_two_steps_loses_and_duplicates_nothing(failure: Failure) -> None:
    owner, durable = play(commits=set(range(0, len(RECORDS), 40)), failures={90: failure, 200: failure})
    assert same(owner.machine, REFERENCE)
    owner.commit(whole=True)
    published = REFERENCE.publisher.published
    assert published is not None
    assert durable.kernels[-1] == pack_kernel(published.kernel, published.info, published.depends_on)
    owner.commit(whole=True)
    assert durable.offset == owner.machine.snapshot().resume_offset


@pytest.mark.slow
@given(
    st.sets(st.integers(0, len(RECORDS) - 1), max_size=10),
    # Not behind the last record: a recovery ends with the first record that its snapshot has not seen.
    st.dictionaries(st.integers(0, len(RECORDS) - 2), st.sampled_from(FAILURES), max_size=4),
    st.sets(st.integers(0, len(RECORDS) - 1), max_size=30),
    st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_failures_at_any_step_do_not_change_the_final_kernel(
    commits: set[int], failures: dict[int, Failure], kernels: set[int], torn: bool
) -> None:
    owner, durable = play(commits, failures, kernels, torn)
    assert same(owner.machine, REFERENCE)
    versions = [read_info(kernel).version for kernel in durable.kernels]
    assert versions == sorted(set(versions)), "scorers must never go back"


def test_a_kernel_is_published_before_its_state_is_committed() -> None:
    owner, durable = play(commits=set(), failures={}, kernels=set(range(len(RECORDS))))
    assert len(durable.kernels) == REFERENCE.publisher.version
    assert not durable.slots
    assert durable.offset == 0
    owner.commit(whole=True)
    assert durable.chosen.cut is not None


def test_kernels_ahead_of_the_state_are_relearned_byte_identically_and_not_published_twice() -> None:
    every = set(range(len(RECORDS)))
    _, undisturbed = play(commits=set(), failures={}, kernels=every)
    owner, durable = play(commits={60}, failures={150: "before 1"}, kernels=every)
    assert durable.kernels == undisturbed.kernels
    assert same(owner.machine, REFERENCE)


def test_an_unreadable_snapshot_falls_back_to_the_previous_one_and_reaches_the_same_state() -> None:
    owner, durable = play(commits={60, 120, 180}, failures={200: "before 1"}, torn=True)
    assert same(owner.machine, REFERENCE)
    assert durable.torn == 1


def test_a_cut_while_a_fallback_catches_up_keeps_what_its_rows_hold() -> None:
    owner, _ = play(commits={60, 120, 130, 140, 180}, failures={122: "before 1", 150: "before 1"}, torn=True)
    assert same(owner.machine, REFERENCE)


def test_the_next_snapshot_never_overwrites_the_only_readable_one() -> None:
    _, durable = play(commits={60, 120}, failures={})
    durable.tear()
    good = durable.newest_slot
    assert good is not None
    assert durable.chosen.fallen_back
    owner = Owner(durable)
    for offset in range(owner.machine.position, len(RECORDS)):
        owner.feed(offset)
    before = durable.slots[good]
    owner.commit(whole=True)
    assert durable.slots[good] == before
    assert not durable.chosen.fallen_back


@pytest.mark.parametrize("failure", ["before 1", "before 2", "before 3", "inside 3"])
def test_nothing_is_committed_after_a_failed_commit(failure: Failure) -> None:
    durable = Durable()
    owner = Owner(durable)
    for offset in range(60):
        owner.feed(offset)
    fail(owner, durable, failure)
    stored = dict(durable.slots)
    for leaving in (False, True):
        with pytest.raises(UnfinishedCommitError, match="'main'"):
            owner.commit(whole=True, leaving=leaving)
    assert durable.slots == stored


def test_a_fenced_owner_reports_it_and_writes_no_offset() -> None:
    class Fenced(Durable):
        async def write(self, transaction: Transaction) -> None:
            raise OwnershipLostError("group 'main' is owned by another processor now")

    durable = Fenced()
    owner = Owner(durable)
    for offset in range(60):
        owner.feed(offset)
    with pytest.raises(OwnershipLostError):
        owner.commit(whole=True)
    assert durable.offset == 0


def test_the_offset_of_a_released_group_is_not_committed() -> None:
    durable = Durable()
    owner = Owner(durable)
    for offset in range(len(RECORDS)):
        owner.feed(offset)
    owner.commit(whole=False, leaving=True)
    assert durable.chosen.cut is not None
    assert durable.offset == 0


CODE_STEP = re.compile(r"^ *# (\d)\. ([\w -]+):", re.M)
PAGE_STEP = re.compile(r"^(\d)\. \*\*([\w -]+)\*\*:", re.M)


def section(title: str) -> str:
    return PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_the_page_about_recovery_numbers_the_steps_of_the_commit_as_the_code_does() -> None:
    steps = CODE_STEP.findall(inspect.getsource(GroupCommitter.commit))
    assert steps == [("1", "Cut"), ("2", "Encode"), ("3", "Transaction"), ("4", "Broker offset"), ("5", "Metrics")]
    assert PAGE_STEP.findall(section("The commit")) == steps


def test_the_page_about_recovery_numbers_the_steps_of_taking_over_as_the_code_does() -> None:
    code = inspect.getsource(GroupLoader.load) + inspect.getsource(GroupMachine.feed)
    steps = CODE_STEP.findall(code)
    assert steps == [("1", "Fence"), ("2", "Read"), ("3", "Restore"), ("4", "Re-read"), ("5", "Continue")]
    assert PAGE_STEP.findall(section("Taking over")) == steps

"""The commit: five steps, the same as on the page, and no failure between them loses or doubles an example."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.live.features import LiveRow
from model.kernel.record import pack_kernel
from streaming.kernel_log.errors import KernelLogError, OwnershipLostError
from streaming.kernel_log.reader import stored_rows
from streaming.kernel_log.snapshot import decode_snapshot
from streaming.kernel_log.writer import Transaction
from streaming.processor import commit
from streaming.processor.commit import Cut, GroupCommitter, UnfinishedCommitError
from streaming.processor.machine import GroupMachine
from streaming.processor.owned_group import GroupLoader
from tests.streaming.processor.test_machine import RECORDS, REFERENCE, same
from tests.streaming.processor.tiny import BACKBONE, appended, machine

PAGE = Path(__file__).resolve().parents[3] / "docs" / "recovery.md"
Failure = Literal["before 1", "before 2", "before 3", "inside 3", "before 4", "before 5"]
FAILURES: tuple[Failure, ...] = get_args(Failure)


class Killed(Exception):
    """The process is gone."""


class Durable:
    """What outlives a process: the kernel log and the broker's offset. `failing` is where the next commit ends."""

    def __init__(self) -> None:
        self.snapshot: bytes | None = None
        self.rows: dict[bytes | None, bytes | None] = {}
        self.kernels: list[bytes] = []
        self.offset = 0
        self.failing: Failure | None = None

    async def write(self, transaction: Transaction) -> None:
        if self.failing == "before 3":
            raise KernelLogError("the broker is away")
        self.snapshot = transaction.snapshot
        self.rows |= {record.key: record.value for record in transaction.rows}
        if transaction.kernel is not None:
            self.kernels.append(transaction.kernel)
        if self.failing == "inside 3":
            raise Killed("written, but the answer did not arrive")

    async def store_offset(self, offset: int) -> None:
        if self.failing == "before 4":
            raise Killed
        self.offset = offset
        if self.failing == "before 5":
            raise Killed

    def successor(self) -> GroupMachine:
        group = machine()
        if self.snapshot is not None:
            snapshot = decode_snapshot(self.snapshot, group="main", fingerprint=BACKBONE.fingerprint)
            rows, unreadable = stored_rows(self.rows)
            assert unreadable == 0
            group.restore(snapshot, rows.get("main", []))
        return group


class Owner:
    """A machine with its committer, on what is durable."""

    def __init__(self, durable: Durable) -> None:
        self.machine = durable.successor()
        self.committer = GroupCommitter("main", cut=self.cut, writer=durable, store_offset=durable.store_offset)
        self._durable = durable
        self._version = self.machine.version
        self._rows: dict[tuple[str, str], LiveRow] = {}

    def feed(self, offset: int) -> None:
        self.machine.feed(offset, RECORDS[offset], appended(RECORDS[offset]))
        self._rows |= {(row.kind, row.key): row for row in self.machine.live.take_changed()}

    async def cut(self) -> Cut | None:
        if self._durable.failing == "before 1":
            raise Killed
        if self.machine.recovering:
            return None
        kernel = self.machine.published if self.machine.version > self._version else None
        rows, self._rows, self._version = list(self._rows.values()), {}, self.machine.version
        return Cut(self.machine.snapshot(), kernel, rows, self.machine.first_keys)


@contextmanager
def encoding_fails(failing: bool) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if failing:

            def encode(_cut: Cut) -> Transaction:
                raise Killed

            patch.setattr(commit, "encode", encode)
        yield


def fail(owner: Owner, durable: Durable, failure: Failure) -> None:
    durable.failing = failure
    with encoding_fails(failure == "before 2"), pytest.raises((Killed, KernelLogError)):
        asyncio.run(owner.committer.commit())
    durable.failing = None


def play(commits: set[int], failures: dict[int, Failure]) -> tuple[Owner, Durable]:
    """Feeds all records; commits and fails behind the given ones, a failure once each."""
    durable, failures = Durable(), dict(failures)
    owner, offset = Owner(durable), 0
    while offset < len(RECORDS):
        owner.feed(offset)
        if offset in commits:
            asyncio.run(owner.committer.commit())
        if offset in failures and not owner.machine.recovering:
            fail(owner, durable, failures.pop(offset))
            owner, offset = Owner(durable), durable.offset
            assert offset <= owner.machine.position, "the broker's offset must not lead the state"
        else:
            offset += 1
    return owner, durable


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_between_two_steps_loses_nothing_and_doubles_nothing(failure: Failure) -> None:
    owner, durable = play(commits=set(range(0, len(RECORDS), 40)), failures={90: failure, 200: failure})
    assert same(owner.machine, REFERENCE)
    asyncio.run(owner.committer.commit())
    assert REFERENCE.published is not None
    assert durable.kernels[-1] == pack_kernel(
        REFERENCE.published.kernel, REFERENCE.published.info, REFERENCE.published.depends_on
    )
    assert durable.offset == owner.machine.snapshot().resume_offset


@pytest.mark.slow
@given(
    st.sets(st.integers(0, len(RECORDS) - 1), max_size=10),
    # Not behind the last record: a recovery ends with the first record that its snapshot has not seen.
    st.dictionaries(st.integers(0, len(RECORDS) - 2), st.sampled_from(FAILURES), max_size=4),
)
@settings(max_examples=20, deadline=None)
def test_failures_anywhere_change_nothing_in_the_final_kernel(commits: set[int], failures: dict[int, Failure]) -> None:
    owner, _ = play(commits, failures)
    assert same(owner.machine, REFERENCE)


@pytest.mark.parametrize("failure", ["before 1", "before 2", "before 3", "inside 3"])
def test_nothing_is_committed_behind_a_commit_that_did_not_get_through(failure: Failure) -> None:
    durable = Durable()
    owner = Owner(durable)
    for offset in range(60):
        owner.feed(offset)
    fail(owner, durable, failure)
    stored = durable.snapshot
    for leaving in (False, True):
        with pytest.raises(UnfinishedCommitError, match="'main'"):
            asyncio.run(owner.committer.commit(leaving=leaving))
    assert durable.snapshot == stored


def test_a_fenced_owner_says_so_and_writes_no_offset() -> None:
    class Fenced(Durable):
        async def write(self, transaction: Transaction) -> None:
            raise OwnershipLostError("group 'main' is owned by another processor now")

    durable = Fenced()
    owner = Owner(durable)
    for offset in range(60):
        owner.feed(offset)
    with pytest.raises(OwnershipLostError):
        asyncio.run(owner.committer.commit())
    assert durable.offset == 0


def test_the_offset_of_a_group_that_is_left_is_not_committed() -> None:
    durable = Durable()
    owner = Owner(durable)
    for offset in range(len(RECORDS)):
        owner.feed(offset)
    asyncio.run(owner.committer.commit(leaving=True))
    assert durable.snapshot is not None
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
    assert steps == [("1", "Fence"), ("2", "Read"), ("3", "Restore"), ("4", "Re-read"), ("5", "Go on")]
    assert PAGE_STEP.findall(section("Taking over")) == steps

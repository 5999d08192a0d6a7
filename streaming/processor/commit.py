"""The commit of a kernel group: state, kernel and position in the stream become durable by one act of five steps.

Most commits carry a new kernel alone: it is small and scorers wait for it. The state behind it is large, and follows
in a *whole cut* now and then (`SnapshotPace`). A kernel that ran ahead of the state does no harm: the next owner learns
the same records again, to the same kernel bit for bit (docs/decisions/0106).

`docs/recovery.md` has the same steps under the same numbers, and says what a failure after each of them leaves behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from features.live.layout import Kind, LiveRow
from model.gate.gate import KeptState
from model.kernel.record import pack_kernel
from streaming.events.decisions import Decision, encode_decision
from streaming.events.status import GroupStatus, encode_status
from streaming.kernel_log.closed import ClosedChanges, encode_closed
from streaming.kernel_log.cuts import StoredCut, seal
from streaming.kernel_log.errors import KernelLogError, OwnershipLostError
from streaming.kernel_log.kept import encode_kept
from streaming.kernel_log.keys import SLOTS, learner_key, mark_key
from streaming.kernel_log.rows import StateRecord, encode_row
from streaming.kernel_log.snapshot import GroupSnapshot, encode_snapshot
from streaming.kernel_log.writer import Transaction
from streaming.monitoring import metrics
from streaming.processor.learned import PublishedKernel

StoreOffset = Callable[[int], Awaitable[object]]
"""Commits the offset that a group's next owner reads from to the broker."""


class UnfinishedCommitError(KernelLogError):
    """An earlier commit of this group did not get through: its changes are in no transaction."""


@dataclass(frozen=True)
class CutState:
    """The state of a group between two records."""

    snapshot: GroupSnapshot
    rows: Sequence[LiveRow]
    """Rows of live features that changed since the last whole cut."""
    rows_offset: int
    """All records before it are in the rows; more than the snapshot has seen while a fallback catches up."""
    first_keys: frozenset[tuple[Kind, str]]
    """Keys that the group has first rows of (`features.live.first_rows`)."""
    closed: ClosedChanges
    """What changed in the closed requests since the last cut."""
    decisions: Sequence[Decision] = ()
    """What was decided about kernels since the last whole cut."""
    kept: Sequence[KeptState] = ()
    """States of the learner that it may go back to, new since the last whole cut."""


@dataclass(frozen=True)
class Cut:
    """What a commit writes: immutable, so that it can be written while the group learns on."""

    kernel: PublishedKernel | None
    """The published kernel if there is a new one since the last cut."""
    state: CutState | None
    """In a whole cut."""
    status: GroupStatus | None = None
    """A look at the group, now and then."""


@dataclass(frozen=True)
class CutPlace:
    """Where the next whole cut of a group goes."""

    number: int
    slot: int
    topic: str
    """Id of the `traffic` topic whose offsets are meant."""
    resume_before: int | None = None
    """Where the re-read for the cut before it begins: that one is kept for a fallback. None if there is none."""

    def following(self, resume_offset: int) -> CutPlace:
        """Where the one after it goes, once the re-read for it begins at `resume_offset`."""
        return CutPlace(self.number + 1, SLOTS[1 - self.slot], self.topic, resume_offset)

    def oldest(self, resume_offset: int) -> int:
        """Where a re-read must begin that serves this cut and the one before it."""
        return resume_offset if self.resume_before is None else min(resume_offset, self.resume_before)


_DECISION_S = 2.0
"""A decision waits no longer for its whole cut, if the one before is as old: people look at it."""


class SnapshotPace:
    """When a whole cut is due: after so long, or when so much was learned that learning it again would take too long.

    Or when something was decided: decisions are written with the state that they follow from, so each is told once.

    Learning takes a new owner about as long as it took the old one, on any machine and at any load.
    """

    def __init__(self, interval_s: float, relearn_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s, self._relearn_s, self._clock = interval_s, relearn_s, clock
        self._since = clock()
        self._learned_s = 0.0
        self._decided = False

    def decided(self) -> None:
        """A decision waits for the next whole cut."""
        self._decided = True

    def learned(self, seconds: float) -> None:
        """The group was at work for so long."""
        self._learned_s += seconds

    def cut(self) -> None:
        """A whole cut was taken."""
        self._since, self._learned_s, self._decided = self._clock(), 0.0, False

    @property
    def due(self) -> bool:
        """Whether the next cut should be a whole one."""
        interval_s = min(self._interval_s, _DECISION_S) if self._decided else self._interval_s
        return self._learned_s >= self._relearn_s or self._clock() - self._since >= interval_s


class TransactionWriter(Protocol):
    """What writes a transaction, see `streaming.kernel_log.writer.GroupWriter`."""

    async def write(self, transaction: Transaction) -> None:
        """Writes all or nothing. Raises OwnershipLostError or KernelLogError."""


class CutSource(Protocol):
    """What gives cuts, see `streaming.processor.learning_thread.LearningThread`."""

    async def cut(self, *, whole: bool) -> Cut | None:
        """What is new since the last cut, None for nothing."""


def encode(cut: Cut, place: CutPlace) -> Transaction:
    """The records of a cut; `place` is where a whole one goes."""
    kernel = None if cut.kernel is None else pack_kernel(cut.kernel.kernel, cut.kernel.info, cut.kernel.depends_on)
    status = None if cut.status is None else encode_status(cut.status)
    if cut.state is None:
        return Transaction(kernel, status=status)
    group = cut.state.snapshot.group
    mark = StoredCut(place.number, place.topic, cut.state.rows_offset)
    whole = StoredCut(place.number, place.topic, cut.state.rows_offset, encode_snapshot(cut.state.snapshot))
    rows = [encode_row(group, row, first=(row.kind, row.key) in cut.state.first_keys) for row in cut.state.rows]
    return Transaction(
        kernel,
        snapshot=StateRecord(learner_key(group, place.slot), seal(whole)),
        rows=[*rows, *encode_closed(group, cut.state.closed), StateRecord(mark_key(group), seal(mark))],
        kept=[encode_kept(cut.state.snapshot.group, state) for state in cut.state.kept],
        decisions=[encode_decision(decision) for decision in cut.state.decisions],
        status=status,
    )


class GroupCommitter:
    """Commits one group, from one event loop."""

    def __init__(
        self,
        group: str,
        *,
        source: CutSource,
        pace: SnapshotPace,
        writer: TransactionWriter,
        store_offset: StoreOffset,
        place: CutPlace,
    ) -> None:
        """`store_offset` commits to the broker; `place` is where the first whole cut goes."""
        self._group = group
        self._source, self._pace = source, pace
        self._writer = writer
        self._store_offset = store_offset
        self._place = place
        self._unfinished = False

    async def commit(self, *, leaving: bool = False) -> None:
        """Makes durable what is new: a kernel, and all of the state when that is due or the group is left.

        `leaving`: the partition goes to another owner now.

        Raises OwnershipLostError or KernelLogError if the transaction failed, and UnfinishedCommitError ever after; the
        next owner goes on from the transaction before. Raises what `store_offset` raises: then this one holds.
        """
        self._begin()

        # 1. Cut: a kernel alone, or the learner stands still between two records: state and offset belong together.
        cut = await self._source.cut(whole=leaving or self._pace.due)
        if cut is None:
            self._unfinished = False
            return

        # 2. Encode: on a thread of its own, so that neither the learner nor the broker's heartbeats wait for it.
        transaction = await asyncio.to_thread(encode, cut, self._place)

        # 3. Transaction: all or nothing. Whoever reads the state reads the offset that belongs to it.
        seconds = await self._write(transaction)
        self._unfinished = False

        # 4. Broker offset: behind the transaction, never ahead, so that a re-read always reaches far enough (0073).
        if cut.state is not None:
            resume_offset = cut.state.snapshot.resume_offset
            place, self._place = self._place, self._place.following(resume_offset)
            if not leaving:  # the partition is no longer ours to commit; an older offset only makes the re-read longer
                await self._store_offset(place.oldest(resume_offset))

        # 5. Metrics: last, so that they count only what is durable.
        self._count(cut, transaction, seconds)

    def _begin(self) -> None:
        """A cut holds what changed since the cut before: another one behind a lost one would leave a hole (0072)."""
        if self._unfinished:
            raise UnfinishedCommitError(
                f"group {self._group!r}: an earlier commit did not get through, so nothing may be committed behind it"
            )
        self._unfinished = True

    async def _write(self, transaction: Transaction) -> float:
        """Writes the transaction; how long that took, seconds."""
        began = time.perf_counter()
        try:
            await self._writer.write(transaction)
        except KernelLogError as error:
            reason = "fenced" if isinstance(error, OwnershipLostError) else "failed"
            metrics.COMMITS_FAILED.labels(self._group, reason).inc()
            raise
        return time.perf_counter() - began

    def _count(self, cut: Cut, transaction: Transaction, seconds: float) -> None:
        metrics.COMMIT_SECONDS.labels(self._group).observe(seconds)
        for what, size in transaction.size.items():
            metrics.COMMIT_BYTES.labels(self._group, what).inc(size)
        if cut.kernel is not None:
            metrics.KERNELS_PUBLISHED.labels(self._group).inc()

"""The commit of a kernel group: five steps make kernel, state and stream position durable together.

Most commits carry only a new kernel, which is small and which scorers wait for. The state is large and is written now
and then, in a *whole cut* (`SnapshotPace`). A kernel may be newer than the stored state without harm: the next owner
learns the same records again, to the same kernel bit for bit (docs/decisions/0106). `docs/recovery.md` lists the same
steps under the same numbers, and what a failure after each of them leaves behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from features.live.layout import Kind, LiveRow
from model.gate.gate import LearnerCheckpoint
from model.kernel.record import pack_kernel
from streaming.events.decisions import Decision, encode_decision
from streaming.events.status import GroupStatus, encode_status
from streaming.group.learned import PublishedKernel
from streaming.kernel_log.checkpoints import encode_checkpoint
from streaming.kernel_log.closed import ClosedChanges, encode_closed
from streaming.kernel_log.cuts import StoredCut, seal
from streaming.kernel_log.errors import KernelLogError, OwnershipLostError
from streaming.kernel_log.keys import SLOTS, learner_key, mark_key
from streaming.kernel_log.rows import StateRecord, encode_row
from streaming.kernel_log.snapshot import GroupSnapshot, encode_snapshot
from streaming.kernel_log.writer import Transaction
from streaming.monitoring import metrics

StoreOffset = Callable[[int], Awaitable[object]]
"""Commits to the broker the offset from which a group's next owner reads."""


class UnfinishedCommitError(KernelLogError):
    """An earlier commit of this group failed, so its changes are in no transaction and nothing may follow them."""


@dataclass(frozen=True)
class CutState:
    """The state of a group after one record and before the next."""

    snapshot: GroupSnapshot
    rows: Sequence[LiveRow]
    """Live rows that changed since the last whole cut."""
    rows_offset: int
    """The rows contain all records before this offset, which may be more than the snapshot does after a fallback."""
    first_keys: frozenset[tuple[Kind, str]]
    """Keys of the group's first rows (`features.live.first_rows`)."""
    closed: ClosedChanges
    """Changes of the closed requests since the last whole cut."""
    decisions: Sequence[Decision] = ()
    """Decisions about kernels since the last whole cut."""
    kept: Sequence[LearnerCheckpoint] = ()
    """States to which the learner may return, new since the last whole cut."""


@dataclass(frozen=True)
class Cut:
    """The content of one commit. It is immutable, so it can be written while the group continues to learn."""

    kernel: PublishedKernel | None
    """The published kernel, if it is new since the last cut."""
    state: CutState | None
    """The state, in a whole cut; else None."""
    status: GroupStatus | None = None
    """The group's status, now and then."""


@dataclass(frozen=True)
class CutPlace:
    """Number and slot of a group's next whole cut."""

    number: int
    slot: int
    topic: str
    """Id of the `traffic` topic that the offsets refer to."""
    resume_before: int | None = None
    """Offset at which the re-read for the previous cut begins, which is kept as a fallback; None if there is none."""

    def following(self, resume_offset: int) -> CutPlace:
        """The place of the cut after this one, whose re-read begins at `resume_offset`."""
        return CutPlace(self.number + 1, SLOTS[1 - self.slot], self.topic, resume_offset)

    def oldest(self, resume_offset: int) -> int:
        """The offset at which a re-read must begin to serve both this cut and the previous one."""
        return resume_offset if self.resume_before is None else min(resume_offset, self.resume_before)


_DECISION_S = 2.0
"""Seconds after the last whole cut from which a decision triggers the next one, because people wait to see it."""


class SnapshotPace:
    """Decides when a whole cut is due: after an interval, or when learning the records again would take too long.

    A decision also makes one due, because decisions are written with the state that they follow from, so that each is
    written once. The time to learn records again is taken to be the time that they took, on the same machine and load.
    """

    def __init__(self, interval_s: float, relearn_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s, self._relearn_s, self._clock = interval_s, relearn_s, clock
        self._since = clock()
        self._learned_s = 0.0
        self._decided = False

    def decided(self) -> None:
        """Records that a decision waits for the next whole cut."""
        self._decided = True

    def learned(self, seconds: float) -> None:
        """Adds seconds that the group spent learning."""
        self._learned_s += seconds

    def cut(self) -> None:
        """Records that a whole cut was taken."""
        self._since, self._learned_s, self._decided = self._clock(), 0.0, False

    @property
    def due(self) -> bool:
        """Whether the next cut should be a whole one."""
        interval_s = min(self._interval_s, _DECISION_S) if self._decided else self._interval_s
        return self._learned_s >= self._relearn_s or self._clock() - self._since >= interval_s


class TransactionWriter(Protocol):
    """Writes a transaction; implemented by `streaming.kernel_log.writer.GroupWriter`."""

    async def write(self, transaction: Transaction) -> None:
        """Writes all records or none. Raises OwnershipLostError or KernelLogError."""


class CutSource(Protocol):
    """Provides cuts; implemented by `streaming.processor.learning_thread.LearningThread`."""

    async def cut(self, *, whole: bool) -> Cut | None:
        """The changes since the last cut; None if there are none."""


def encode(cut: Cut, place: CutPlace) -> Transaction:
    """Encodes a cut as the records of a transaction; `place` is the place of a whole cut."""
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
        kept=[encode_checkpoint(cut.state.snapshot.group, state) for state in cut.state.kept],
        decisions=[encode_decision(decision) for decision in cut.state.decisions],
        status=status,
    )


class GroupCommitter:
    """Commits one group, from a single event loop."""

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
        """`store_offset` commits to the broker; `place` is the place of the first whole cut."""
        self._group = group
        self._source, self._pace = source, pace
        self._writer = writer
        self._store_offset = store_offset
        self._place = place
        self._unfinished = False

    async def commit(self, *, leaving: bool = False) -> None:
        """Writes a new kernel and, if a whole cut is due or the group is left, the whole state.

        `leaving`: the partition is passing to another owner.

        Raises OwnershipLostError or KernelLogError if the transaction failed, and UnfinishedCommitError from then on;
        the next owner continues from the transaction before. Errors of `store_offset` are passed on; the transaction
        is then durable all the same.
        """
        self._begin()

        # 1. Cut: take a new kernel alone, or stop the learner between two records, so that state and offset match.
        cut = await self._source.cut(whole=leaving or self._pace.due)
        if cut is None:
            self._unfinished = False
            return

        # 2. Encode: on another thread, so that neither the learner nor the broker's heartbeats wait.
        transaction = await asyncio.to_thread(encode, cut, self._place)

        # 3. Transaction: all or nothing, so that whoever reads the state reads the offset that belongs to it.
        seconds = await self._write(transaction)
        self._unfinished = False

        # 4. Broker offset: always after the transaction, so that a re-read reaches far enough back (0073).
        if cut.state is not None:
            resume_offset = cut.state.snapshot.resume_offset
            place, self._place = self._place, self._place.following(resume_offset)
            if not leaving:  # the partition may have a new owner; an older offset only makes its re-read longer
                await self._store_offset(place.oldest(resume_offset))

        # 5. Metrics: last, so that they count only durable data.
        self._count(cut, transaction, seconds)

    def _begin(self) -> None:
        """Raises UnfinishedCommitError after a failed commit: a cut holds changes since the one before, so a later one
        would leave a gap (0072)."""
        if self._unfinished:
            raise UnfinishedCommitError(
                f"group {self._group!r}: an earlier commit failed, so nothing may be committed after it"
            )
        self._unfinished = True

    async def _write(self, transaction: Transaction) -> float:
        """Writes the transaction; returns how long that took, seconds."""
        began = time.perf_counter()
        try:
            await self._writer.write(transaction)
        except KernelLogError as error:
            reason = "fenced" if isinstance(error, OwnershipLostError) else "failed"
            metrics.kernel_log.COMMITS_FAILED.labels(self._group, reason).inc()
            raise
        return time.perf_counter() - began

    def _count(self, cut: Cut, transaction: Transaction, seconds: float) -> None:
        metrics.kernel_log.COMMIT_SECONDS.labels(self._group).observe(seconds)
        for kind, size in transaction.size.items():
            metrics.kernel_log.COMMIT_BYTES.labels(self._group, kind).inc(size)
        if cut.kernel is not None:
            metrics.kernel_log.KERNELS_PUBLISHED.labels(self._group).inc()

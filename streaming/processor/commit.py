"""The commit of a kernel group: state, kernel and position in the stream become durable by one act of five steps.

`docs/recovery.md` has the same steps under the same numbers, and says what a failure after each of them leaves behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from features.live.layout import Kind, LiveRow
from model.kernel.record import pack_kernel
from streaming.events.decisions import Decision, encode_decision
from streaming.kernel_log.errors import KernelLogError, OwnershipLostError
from streaming.kernel_log.rows import encode_row
from streaming.kernel_log.snapshot import GroupSnapshot, encode_snapshot
from streaming.kernel_log.writer import Transaction
from streaming.monitoring import metrics
from streaming.processor.machine import PublishedKernel


class UnfinishedCommitError(KernelLogError):
    """An earlier commit of this group did not get through: its changes are in no transaction."""


@dataclass(frozen=True)
class Cut:
    """A group between two records: immutable, so that it can be written while the group learns on."""

    snapshot: GroupSnapshot
    kernel: PublishedKernel | None
    """The published kernel if there is a new one since the last cut."""
    rows: Sequence[LiveRow]
    """Rows of live features that changed since the last cut."""
    first_keys: frozenset[tuple[Kind, str]]
    """Keys that the group has first rows of (`features.live.first_rows`)."""
    decisions: Sequence[Decision] = ()
    """What was decided about kernels since the last cut."""


class TransactionWriter(Protocol):
    """What writes a transaction, see `streaming.kernel_log.writer.GroupWriter`."""

    async def write(self, transaction: Transaction) -> None:
        """Writes all or nothing. Raises OwnershipLostError or KernelLogError."""


def encode(cut: Cut) -> Transaction:
    """The records of a cut."""
    return Transaction(
        kernel=None if cut.kernel is None else pack_kernel(cut.kernel.kernel, cut.kernel.info, cut.kernel.depends_on),
        snapshot=encode_snapshot(cut.snapshot),
        rows=[encode_row(cut.snapshot.group, row, first=(row.kind, row.key) in cut.first_keys) for row in cut.rows],
        decisions=[encode_decision(decision) for decision in cut.decisions],
    )


class GroupCommitter:
    """Commits one group, from one event loop."""

    def __init__(
        self,
        group: str,
        *,
        cut: Callable[[], Awaitable[Cut | None]],
        writer: TransactionWriter,
        store_offset: Callable[[int], Awaitable[object]],
    ) -> None:
        """`cut` gives what changed since the last cut, None for nothing; `store_offset` commits to the broker."""
        self._group = group
        self._cut = cut
        self._writer = writer
        self._store_offset = store_offset
        self._unfinished = False

    async def commit(self, *, leaving: bool = False) -> None:
        """Makes durable what the group has learned. `leaving`: the partition goes to another owner now.

        Raises OwnershipLostError or KernelLogError if the transaction failed, and UnfinishedCommitError ever after; the
        next owner goes on from the transaction before. Raises what `store_offset` raises: then this one holds.
        """
        self._begin()

        # 1. Cut: the learner stands still between two records, so that state and offset belong together.
        cut = await self._cut()
        if cut is None:
            self._unfinished = False
            return

        # 2. Encode: on a thread of its own, so that neither the learner nor the broker's heartbeats wait for it.
        transaction = await asyncio.to_thread(encode, cut)

        # 3. Transaction: all or nothing. Whoever reads the state reads the offset that belongs to it.
        seconds = await self._write(transaction)
        self._unfinished = False

        # 4. Broker offset: behind the transaction, never ahead, so that a re-read always reaches far enough (0073).
        if not leaving:  # the partition is no longer ours to commit; an older offset only makes the re-read longer
            await self._store_offset(cut.snapshot.resume_offset)

        # 5. Metrics: last, so that they count only what is durable.
        self._count(cut, seconds)

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

    def _count(self, cut: Cut, seconds: float) -> None:
        metrics.COMMIT_SECONDS.labels(self._group).observe(seconds)
        if cut.kernel is not None:
            metrics.KERNELS_PUBLISHED.labels(self._group).inc()

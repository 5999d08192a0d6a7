"""Kernels as a reader meets them in the `kernels` topic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from streaming.kernel_log.keys import kernel_group


@dataclass(frozen=True, slots=True)
class KernelRecord:
    """One record of the `kernels` topic."""

    partition: int
    key: bytes | None
    value: bytes | None
    """None is a tombstone: the group goes back to the identity."""


def newest_kernels(records: Iterable[KernelRecord]) -> dict[str, KernelRecord]:
    """The last kernel record of each group in `records` (in the order of the log); other records are passed over."""
    newest: dict[str, KernelRecord] = {}
    for record in records:
        group = kernel_group(record.key)
        if group is not None:
            newest[group] = record
    return newest

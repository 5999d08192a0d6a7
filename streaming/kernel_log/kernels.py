"""Kernels in the `kernels` topic, for its readers."""

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
    """None is a tombstone, after which the group is served by the identity."""


def newest_kernels(records: Iterable[KernelRecord]) -> dict[str, KernelRecord]:
    """The last kernel record of each group in `records` (in the order of the log); other records are ignored."""
    newest: dict[str, KernelRecord] = {}
    for record in records:
        group = kernel_group(record.key)
        if group is not None:
            newest[group] = record
    return newest

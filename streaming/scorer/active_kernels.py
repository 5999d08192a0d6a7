"""Which kernel answers for which group: each new one is built beside the old one, checked, and taken by one assignment.

No broker, no loop: `streaming.scorer.kernel_follower` brings the records.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from model.kernel.kernel import Kernel
from model.kernel.record import KernelInfo, KernelRefused
from streaming.kernel_log.kernels import KernelRecord, newest_kernels
from streaming.monitoring import metrics
from streaming.scorer.schema import HotSwap, KernelRefusal

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ActiveKernel:
    """The kernel that answers for a group. A request takes one reference and keeps it to its end."""

    kernel: Kernel | None = None
    """None is the identity: the live arm equals the frozen arm."""
    version: int = 0
    """0 is the identity."""


IDENTITY = ActiveKernel()
Build = Callable[[bytes], tuple[Kernel, KernelInfo]]
"""Makes and checks a kernel. Raises KernelRefused."""


@dataclass(slots=True)
class ActiveKernels:
    """Which kernel answers for which group, and how it came to that. No broker, no loop.

    The order of the log decides, not the version: a roll-back may write an older kernel again (docs/decisions/0041).
    """

    groups: Sequence[str]
    """Names of the groups; the index is the group's partition."""
    build: Build
    clock: Callable[[], float] = time.time
    swaps: deque[HotSwap] = field(default_factory=lambda: deque(maxlen=1_000))
    refusals: deque[KernelRefusal] = field(default_factory=lambda: deque(maxlen=100))
    _active: dict[str, ActiveKernel] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._active = dict.fromkeys(self.groups, IDENTITY)
        for group in self.groups:
            metrics.KERNEL_VERSION.labels(group=group).set(0)

    def current(self, group: str) -> ActiveKernel:
        """The kernel in use; the identity before the first one. Raises KeyError for a name that no group has."""
        return self._active[group]

    def versions(self) -> dict[str, int]:
        """Version in use by group."""
        return {group: active.version for group, active in self._active.items()}

    def take(self, records: Iterable[KernelRecord], *, at_start: bool = False) -> None:
        """Takes the newest kernel per group out of `records` (in the order of the log); other keys are passed over."""
        for group, record in newest_kernels(records).items():
            self._take_one(group, record, at_start=at_start)

    def discard(self, group: str, version: int, reason: str, detail: str) -> None:
        """Goes back to the identity if `version` is still the one in use: it has shown itself unfit."""
        with self._lock:
            if self._active[group].version != version:
                return
            self._use(group, IDENTITY)
        self._refuse(group, reason, f"version {version} is out of use: {detail}")

    def _take_one(self, group: str, record: KernelRecord, *, at_start: bool) -> None:
        if group not in self._active:
            self._refuse("unknown", "unknown_group", f"key {record.key!r} names no configured group")
            return
        if self.groups.index(group) != record.partition:
            self._refuse(group, "wrong_partition", f"it stands on partition {record.partition}")
            return
        if record.value is None:
            log.warning("kernel of group %s was deleted from the log: the identity serves", group)
            with self._lock:
                self._use(group, IDENTITY)
            return
        try:
            kernel, info = self.build(record.value)
            if info.group != group:
                raise KernelRefused("wrong_group", f"it was learned by group {info.group!r}")
        except KernelRefused as refused:
            self._refuse(group, refused.reason, str(refused))
            return
        self._swap(group, kernel, info, at_start=at_start)

    def _swap(self, group: str, kernel: Kernel, info: KernelInfo, *, at_start: bool) -> None:
        with self._lock:
            self._use(group, ActiveKernel(kernel, info.version))
        now = self.clock()
        freshness = now - info.newest_event_time
        self.swaps.append(HotSwap(group, info.version, info.newest_event_time, now, freshness, info.examples, at_start))
        metrics.KERNELS_TAKEN.labels(group=group).inc()
        if not at_start:
            metrics.FRESHNESS_SECONDS.labels(group=group).observe(freshness)
        log.log(
            logging.INFO if at_start else logging.DEBUG,
            "group %s: kernel %d taken, %d examples, %.3f s fresh",
            *(group, info.version, info.examples, freshness),
        )

    def _use(self, group: str, active: ActiveKernel) -> None:
        self._active[group] = active
        metrics.KERNEL_VERSION.labels(group=group).set(active.version)

    def _refuse(self, group: str, reason: str, detail: str) -> None:
        metrics.KERNELS_REFUSED.labels(group=group, reason=reason).inc()
        self.refusals.append(KernelRefusal(group, reason, detail, self.clock()))
        log.error(
            "kernel refused for group %s (%s): %s; kernel %s stays in use",
            *(group, reason, detail, self._active[group].version if group in self._active else "none"),
        )

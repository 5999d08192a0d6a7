"""Decides which kernel serves each group: a new one is built beside the old one, checked, and swapped in by assignment.

The newest published kernel serves unless an operator ordered another. There is no broker and no event loop here;
`streaming.scorer.kernel_follower` brings the records.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from model.kernel.features import KernelInputs
from model.kernel.kernel import Kernel
from model.kernel.record import KernelInfo, KernelRefused
from streaming.events.decisions import Order, decode_order
from streaming.kernel_log.kernels import KernelRecord, newest_kernels
from streaming.monitoring import metrics
from streaming.scorer.group_kernels import IDENTITY, ActiveKernel, GroupKernels
from streaming.scorer.sanity import CHECK_AGAIN, check_sanity
from streaming.scorer.schema import CurrentKernel, HotSwap, KernelRefusal

log = logging.getLogger(__name__)


Build = Callable[[bytes], tuple[Kernel, KernelInfo]]
"""Builds and checks a kernel. Raises KernelRefused."""


@dataclass(slots=True)
class ActiveKernels:
    """The kernel that serves each group, with swaps and refusals. It has no broker and no event loop.

    The order of the log decides, not the version, because a roll-back may publish an older kernel
    (docs/decisions/0041).
    """

    groups: Sequence[str]
    """Names of the groups; a group's index is its partition."""
    build: Build
    clock: Callable[[], float] = time.time
    swaps: deque[HotSwap] = field(default_factory=lambda: deque(maxlen=1_000))
    refusals: deque[KernelRefusal] = field(default_factory=lambda: deque(maxlen=100))
    _groups: dict[str, GroupKernels] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self._groups = {group: GroupKernels(Order(group)) for group in self.groups}
        for group in self.groups:
            self._show(group)

    def current(self, group: str) -> ActiveKernel:
        """The kernel in use; the identity before the first one. Raises KeyError for an unknown group."""
        return self._groups[group].active

    def versions(self) -> dict[str, int]:
        """The version served, by group; 0 is the frozen arm."""
        return {group: self.state(group).version for group in self.groups}

    def state(self, group: str) -> CurrentKernel:
        """The group's served kernel and the operator's order."""
        return self._groups[group].state()

    # --- published kernels ---

    def take(self, records: Iterable[KernelRecord], *, at_start: bool = False) -> None:
        """Takes the newest kernel of each group in `records` (in the order of the log); other keys are ignored."""
        for group, record in newest_kernels(records).items():
            try:
                self._take_one(group, record, at_start=at_start)
            except KernelRefused as refused:
                self._refuse(group, refused.reason, str(refused))
            except Exception as error:  # noqa: BLE001 - one bad record must not keep later ones from being read
                self._refuse(group, "garbage", f"{type(error).__name__}: {error}")

    def _take_one(self, group: str, record: KernelRecord, *, at_start: bool) -> None:
        """Takes one record of the log. Raises KernelRefused, and what is served stays, except after a deletion."""
        known = self._known(group)
        if self.groups.index(group) != record.partition:
            raise KernelRefused("wrong_partition", f"it is on partition {record.partition}")
        if record.value is None:
            self._publish(group, IDENTITY, at_start=at_start)
            raise KernelRefused("deleted", "somebody deleted the kernel from the log: the frozen arm is served")
        kernel, info = self._built(group, record.value)
        known.recent.check(kernel)
        self._publish(group, ActiveKernel(self._checked(group, kernel), info), at_start=at_start)

    def _checked(self, group: str, kernel: Kernel) -> Kernel:
        """The kernel, without its conversion kernel if that fails the check: one task must not hold the other back."""
        try:
            if kernel.conversion is not None:
                self._groups[group].recent_conversions.check(kernel.conversion)
        except KernelRefused as refused:
            self._refuse(group, refused.reason, f"conversions: {refused}; those of the frozen arm are served")
            return replace(kernel, conversion=None)
        return kernel

    def _known(self, group: str) -> GroupKernels:
        known = self._groups.get(group)
        if known is None:
            raise KernelRefused("unknown_group", "its key names no configured group")
        return known

    def _built(self, group: str, data: bytes) -> tuple[Kernel, KernelInfo]:
        kernel, info = self.build(data)
        if info.group != group:
            raise KernelRefused("wrong_group", f"it was learned by group {info.group!r}")
        return kernel, info

    def _publish(self, group: str, published: ActiveKernel, *, at_start: bool) -> None:
        with self._lock:
            self._groups[group].published = published
            self._decide(group, at_start=at_start)
        if published.info is not None:
            metrics.scorer.KERNELS_TAKEN.labels(group=group).inc()

    # --- operator's orders ---

    def apply_orders(self, records: Iterable[KernelRecord]) -> None:
        """Takes orders from records of `control` in the order of the log; each group keeps its newest one."""
        newest = {(record.key or b"").decode(errors="replace"): record.value for record in records}
        for group, value in newest.items():
            try:
                self._apply_order(group, value)
            except KernelRefused as refused:
                self._refuse(group, refused.reason, f"an order: {refused}")
            except Exception as error:  # noqa: BLE001 - one bad record must not keep later ones from being read
                self._refuse(group, "bad_order", f"an order of an operator: {type(error).__name__}: {error}")

    def _apply_order(self, group: str, value: bytes | None) -> None:
        """Takes an operator's order, None for its deletion. Raises KernelRefused if it cannot be obeyed."""
        known = self._known(group)
        order = Order(group) if value is None else decode_order(value)
        if order.group != group:
            raise KernelRefused("bad_order", f"it is for group {order.group!r}")
        pinned = None
        try:
            if order.pinned_version is not None:
                pinned = ActiveKernel(*self._built(group, order.kernel or b""))
        finally:  # if a pin cannot be obeyed, the published kernel is served and the order is still shown
            with self._lock:
                known.order, known.pinned = msgspec.structs.replace(order, kernel=None), pinned
                self._decide(group, ordered=True)
        log.warning(
            "group %s: ordered by %s (%s): pinned %s, frozen %s, learning %s; version %d is served",
            *(group, order.by, order.why, order.pinned_version, order.frozen, order.learning),
            self.state(group).version,
        )

    # --- serving ---

    def observe(self, group: str, inputs: KernelInputs, conversions: KernelInputs | None = None) -> None:
        """Keeps a request's inputs for checking new kernels; rechecks a kernel taken before there were any.

        `conversions` are the inputs of the conversion task for the same request.
        """
        known = self._groups[group]
        known.recent.add(inputs)
        if conversions is not None:
            known.recent_conversions.add(conversions)
        if known.recent.seen in CHECK_AGAIN and known.pinned is None:
            self._check_active(group, known.recent.check, known.recent_conversions.check)

    def check_on(self, group: str, inputs: KernelInputs, conversions: KernelInputs | None = None) -> None:
        """Checks the published kernel in use on made-up requests, which the warm-up makes."""

        def of_conversions(kernel: Kernel) -> None:
            if conversions is not None:
                check_sanity(kernel, conversions)

        if self._groups[group].pinned is None:  # an operator's order overrides the check, as in `observe`
            self._check_active(group, lambda kernel: check_sanity(kernel, inputs), of_conversions)

    def _check_active(
        self, group: str, check: Callable[[Kernel], None], of_conversions: Callable[[Kernel], None]
    ) -> None:
        """Discards the active kernel, or only its part for conversions, if its check refuses it."""
        active = self._groups[group].active
        if active.kernel is None:
            return None
        try:
            check(active.kernel)
        except KernelRefused as refused:
            return self.discard(group, active.version, refused.reason, str(refused))
        try:
            if active.kernel.conversion is not None:
                of_conversions(active.kernel.conversion)
        except KernelRefused as refused:
            self.discard_conversions(group, active.version, refused.reason, str(refused))
        return None

    def discard(self, group: str, version: int, reason: str, detail: str) -> None:
        """Returns to the identity if `version` is still in use, because a request has shown it to be unfit."""
        with self._lock:
            if not self._groups[group].discard(version):
                return
            self._decide(group)
        self._refuse(group, reason, f"version {version} is out of use: {detail}")

    def discard_conversions(self, group: str, version: int, reason: str, detail: str) -> None:
        """Serves the frozen conversion probabilities beside the clicks of `version`, if it is still in use."""
        with self._lock:
            if not self._groups[group].discard_conversions(version):
                return
        self._refuse(group, reason, f"the conversions of version {version} are out of use: {detail}")

    def _decide(self, group: str, *, at_start: bool = False, ordered: bool = False) -> None:
        """Swaps in the kernel to serve now."""
        known = self._groups[group]
        before, now = known.active, known.chosen()
        known.active = now
        self._show(group)
        if now.kernel is not before.kernel and now.info is not None:
            self._note(group, now.info, at_start=at_start, ordered=ordered)

    def _note(self, group: str, info: KernelInfo, *, at_start: bool, ordered: bool) -> None:
        """Counts and logs the change to a kernel. Neither a start nor an order says how fresh kernels are."""
        now = self.clock()
        fresh = now - info.newest_event_time
        newest, examples = info.newest_event_time, info.examples
        self.swaps.append(HotSwap(group, info.version, newest, now, fresh, examples, at_start, ordered))
        if not at_start and not ordered:
            metrics.scorer.FRESHNESS_SECONDS.labels(group=group).observe(fresh)
        log.log(
            logging.INFO if at_start else logging.DEBUG,
            "group %s: kernel %d taken, %d examples, %.3f s fresh",
            *(group, info.version, examples, fresh),
        )

    def _show(self, group: str) -> None:
        state = self.state(group)
        metrics.scorer.KERNEL_VERSION.labels(group=group).set(state.version)
        metrics.scorer.KERNEL_PINNED.labels(group=group).set(state.pinned or 0)
        metrics.scorer.KERNEL_FROZEN.labels(group=group).set(state.frozen)

    def _refuse(self, group: str, reason: str, detail: str) -> None:
        known = group in self._groups
        metrics.scorer.KERNELS_REFUSED.labels(group=group if known else "unknown", reason=reason).inc()
        self.refusals.append(KernelRefusal(group if known else "unknown", reason, detail, self.clock()))
        log.error(
            "kernel refused for group %s (%s): %s; kernel %s is in use",
            *(group, reason, detail, self.state(group).version if known else "none"),
        )

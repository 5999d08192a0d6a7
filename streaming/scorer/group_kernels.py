"""The kernels of one group: the newest published one, the one that an operator pinned, and the one that serves."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from model.kernel.kernel import Kernel
from model.kernel.record import KernelInfo
from streaming.events.decisions import Order
from streaming.scorer.sanity import RecentRequests
from streaming.scorer.schema import CurrentKernel


@dataclass(frozen=True, slots=True)
class ActiveKernel:
    """The kernel that serves a group. A request takes one reference and keeps it to its end."""

    kernel: Kernel | None = None
    """None is the identity: the live arm equals the frozen arm."""
    info: KernelInfo | None = None
    frozen: bool = False
    """Whether an operator froze the group: the frozen arm is served, and the live arm only measured."""

    @property
    def version(self) -> int:
        """Version of `kernel`; 0 is the identity."""
        return 0 if self.info is None else self.info.version


IDENTITY = ActiveKernel()


@dataclass(slots=True)
class GroupKernels:
    """The kernels and the order of one group."""

    order: Order
    published: ActiveKernel = IDENTITY
    """The newest valid kernel of the log."""
    pinned: ActiveKernel | None = None
    """The kernel that an operator ordered."""
    active: ActiveKernel = IDENTITY
    recent: RecentRequests = field(default_factory=RecentRequests)
    recent_conversions: RecentRequests = field(default_factory=RecentRequests)
    """The same requests as inputs of the conversion task; empty for a backbone of clicks alone."""

    def state(self) -> CurrentKernel:
        """The served kernel and the operator's order."""
        active, order = self.active, self.order
        return CurrentKernel(
            group=order.group,
            version=0 if active.frozen else active.version,
            published=self.published.version,
            pinned=order.pinned_version,
            frozen=order.frozen,
            learning=order.learning,
            by=order.by,
            why=order.why,
            ordered_at=order.time,
            newest_event_time=None if active.info is None else active.info.newest_event_time,
        )

    def chosen(self) -> ActiveKernel:
        """The kernel to serve now: the pinned one if there is one, else the published one."""
        chosen = self.published if self.pinned is None else self.pinned
        return replace(chosen, frozen=True) if self.order.frozen else chosen

    def discard(self, version: int) -> bool:
        """Puts the identity in the place of `version`, if it is in use; whether it was."""
        if self.active.version != version:
            return False
        if self.pinned is None:
            self.published = IDENTITY
        else:
            self.pinned = IDENTITY
        return True

    def discard_conversions(self, version: int) -> bool:
        """Drops the conversion kernel of `version`, if it is in use; whether it was."""
        active = self.active
        if active.version != version or active.kernel is None or active.kernel.conversion is None:
            return False
        kernel = replace(active.kernel, conversion=None)
        self.active = replace(active, kernel=kernel)
        if self.pinned is None:
            self.published = replace(self.published, kernel=kernel)
        else:
            self.pinned = replace(self.pinned, kernel=kernel)
        return True

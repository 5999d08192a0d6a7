"""The kernels that a group publishes: their versions, and what they were learned from and depend on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from model.kernel.batch import MicroBatch
from model.kernel.kernel import Kernel
from model.kernel.record import KernelInfo
from streaming.processor.conversion_head import ConversionHead
from streaming.processor.learned import PublishedKernel


class KernelPublisher:
    """Numbers and describes one group's kernels.

    A kernel of clicks is published together with one of conversions, if the backbone has that task.
    """

    def __init__(
        self, group: str, fingerprint: str, depends_on: Mapping[str, Any], conversions: ConversionHead | None
    ) -> None:
        """`depends_on` are the settings that the weights depend on."""
        self._group, self._fingerprint, self._depends_on = group, fingerprint, depends_on
        self._conversions = conversions
        self.version = 0
        """Version of the newest kernel; 0 before the first."""
        self.published: PublishedKernel | None = None
        """The newest kernel published since this publisher was made; earlier ones are in the kernel log."""
        self.published_at = float("-inf")
        """Event time at which a kernel of clicks was published last, seconds; minus infinity before the first."""
        self.examples = 0
        """Number of examples that were learned."""
        self.newest_event_time = float("-inf")
        """Event time of the newest of them, seconds; minus infinity before the first."""

    def learned(self, batch: MicroBatch) -> None:
        """Notes what the next kernel was learned from."""
        self.examples += len(batch)
        self.newest_event_time = max(self.newest_event_time, float(batch.time.max()))

    def publish(self, clicks: Kernel, now: float) -> PublishedKernel:
        """Publishes a kernel of clicks at event time `now`, seconds."""
        self.published_at = now
        if self._conversions is not None:
            self._conversions.beside = clicks
        return self.publish_beside(clicks)

    def publish_beside(self, clicks: Kernel, of_conversions: Kernel | None = None) -> PublishedKernel:
        """Publishes a kernel of clicks together with a kernel of conversions: `of_conversions`, or the present one."""
        self.version += 1
        if self._conversions is not None:
            self._conversions.publish(self.version, of_conversions)
        self.published = self.described(clicks, self.version)
        return self.published

    def described(self, clicks: Kernel, version: int) -> PublishedKernel:
        """A kernel of clicks beside the present one of conversions, as it would be published under `version`."""
        conversion = None if self._conversions is None else self._conversions.kernel
        info = KernelInfo(
            group=self._group,
            version=version,
            backbone_fingerprint=self._fingerprint,
            newest_event_time=self.newest_event_time,
            examples=self.examples,
        )
        return PublishedKernel(dataclasses.replace(clicks, conversion=conversion), info, self._depends_on)

"""The kernels that a group publishes: when, under which version, and what they were learned from and depend on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from model.gate.guarded import GuardedLearner, Step
from model.kernel.batch import MicroBatch
from model.kernel.kernel import Kernel
from model.kernel.record import KernelInfo
from streaming.group.conversion_head import ConversionHead
from streaming.group.learned import PublishedKernel
from streaming.join.join import LabelledRequest


class KernelPublisher:
    """Publishes one group's kernels: decides when, numbers and describes them.

    A kernel of clicks is published together with one of conversions, if the backbone has that task.
    """

    def __init__(
        self,
        group: str,
        fingerprint: str,
        *,
        guarded: GuardedLearner[LabelledRequest],
        depends_on: Mapping[str, Any],
        publish_seconds: float,
        conversions: ConversionHead | None,
    ) -> None:
        """`depends_on` are the settings that the weights depend on; `publish_seconds` are of event time."""
        self._group, self._fingerprint, self._depends_on = group, fingerprint, depends_on
        self._guarded, self._publish_seconds, self._conversions = guarded, publish_seconds, conversions
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

    def publish_what_is_due(self, step: Step[LabelledRequest], now: float) -> PublishedKernel | None:
        """Publishes the kernel that the gate wants served instead of a harmful one, or the candidate when it is due.

        `now` is the watermark, seconds.
        """
        gate = self._guarded.gate
        if step.served is not None:  # at once, whatever the interval, because the live kernel does harm (0094)
            published = self._publish(step.served, now)
            gate.harm.serve(self.version)
            return published
        # Event time, so that a replay publishes the same versions as the first run.
        due = now - self.published_at >= self._publish_seconds
        if not due or gate.held or not any(batch.batch is not None for batch in step.batches):
            return None
        gate.harm.published()
        return self._publish(self._guarded.learner.candidate, now)

    def publish_conversions(self, step: Step[LabelledRequest]) -> None:
        """Publishes a kernel of conversions that cannot wait for the next kernel of clicks, beside the last of these.

        It replaces a harmful one, or was learned while the gate of clicks holds theirs.
        """
        head, learner = self._conversions, self._guarded.learner
        if head is None:
            return
        learned = any(batch.batch is not None for batch in step.batches) and not head.gate.held
        if step.served is not None or (learned and self._guarded.gate.held):
            self._publish_beside(head.beside or Kernel.identity(learner.start), step.served)

    def _publish(self, clicks: Kernel, now: float) -> PublishedKernel:
        self.published_at = now
        if self._conversions is not None:
            self._conversions.beside = clicks
        return self._publish_beside(clicks)

    def _publish_beside(self, clicks: Kernel, of_conversions: Kernel | None = None) -> PublishedKernel:
        """Publishes a kernel of clicks together with a kernel of conversions: `of_conversions`, or the present one."""
        self.version += 1
        if self._conversions is not None:
            self._conversions.publish(self.version, of_conversions)
        self.published = self._described(clicks, self.version)
        return self.published

    def candidate(self, version: int) -> PublishedKernel:
        """The candidate as if it were published now, under `version`."""
        return self._described(self._guarded.learner.candidate, version)

    def _described(self, clicks: Kernel, version: int) -> PublishedKernel:
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

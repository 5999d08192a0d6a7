"""What Prometheus sees of one group: how the arms do, scored before learning, and how far the learner is."""

from __future__ import annotations

import torch

from model.evaluation import PrequentialWindow
from streaming.monitoring import metrics
from streaming.processor.machine import GroupMachine, Learned

WINDOW_EXAMPLES = 5_000


class GroupMetrics:
    """Keeps the metrics of one group current. The arms' scores are those that were served."""

    def __init__(self, group: str) -> None:
        self.group = group
        self._window = PrequentialWindow(WINDOW_EXAMPLES)
        self._dropped: dict[str, int] = {}

    def learned(self, learned: Learned, seconds: float) -> None:
        """Counts one micro-batch that took `seconds` to learn."""
        metrics.LEARN_SECONDS.labels(self.group).observe(seconds)
        batch = learned.batch
        clicks = int(batch.label.sum())
        metrics.EXAMPLES_JOINED.labels(self.group, "click").inc(clicks)
        metrics.EXAMPLES_JOINED.labels(self.group, "no_click").inc(len(batch) - clicks)
        metrics.EXAMPLES_LEARNED.labels(self.group).inc(len(batch))
        metrics.KERNEL_KL.labels(self.group).set(learned.report.compression)
        metrics.KERNEL_TRUST.labels(self.group).set(learned.report.trust)
        self._window.add(
            batch.label.numpy(),
            {
                "frozen": torch.sigmoid(batch.frozen_logit).numpy(),
                "live": torch.sigmoid(batch.live_logit).numpy(),
                "candidate": torch.sigmoid(learned.report.candidate_logit).numpy(),
            },
        )

    def summarise(self, machine: GroupMachine, waiting: int) -> None:
        """Brings the gauges up to date; called now and then, on the thread that feeds `machine`."""
        for arm, values in self._window.summary().items():
            metrics.ARM_AUC.labels(self.group, arm).set(values["auc"])
            metrics.ARM_LOG_LOSS.labels(self.group, arm).set(values["log_loss"])
            metrics.ARM_CALIBRATION.labels(self.group, arm).set(values["calibration"])
        metrics.KERNEL_DISTANCE.labels(self.group).set(machine.learner.distance())
        metrics.OPEN_REQUESTS.labels(self.group).set(len(machine.join))
        metrics.WATERMARK.labels(self.group).set(machine.join.watermark)
        metrics.LEARN_QUEUE.labels(self.group).set(waiting)
        for reason, count in machine.dropped.items():
            metrics.JOIN_DROPPED.labels(self.group, reason).inc(max(0, count - self._dropped.get(reason, 0)))
            self._dropped[reason] = count

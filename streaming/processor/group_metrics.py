"""What Prometheus sees of one group: how the arms do, scored before learning, and how far the learner is."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from model.evaluation import PrequentialWindow
from model.kernel.batch import MicroBatch
from model.ranking import NDCG_AT, ListWindow
from streaming.monitoring import metrics
from streaming.processor.machine import GroupMachine, Learned

WINDOW_EXAMPLES = 5_000
WINDOW_LISTS = 2_000
"""Requests with both labels over which their order is judged: few say little."""


class GroupMetrics:
    """Keeps the metrics of one group current. The arms' scores are those that were served."""

    def __init__(self, group: str) -> None:
        self.group = group
        self._window = PrequentialWindow(WINDOW_EXAMPLES)
        self._lists = ListWindow(WINDOW_LISTS)
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
        logits = {
            "frozen": batch.frozen_logit,
            "live": batch.live_logit,
            "candidate": learned.report.candidate_logit,
        }
        self._window.add(batch.label.numpy(), {arm: torch.sigmoid(logit).numpy() for arm, logit in logits.items()})
        lists = request_numbers(batch)
        if lists is not None:
            self._lists.add(batch.label.numpy(), {arm: logit.numpy() for arm, logit in logits.items()}, lists)

    def summarise(self, machine: GroupMachine, waiting: int) -> None:
        """Brings the gauges up to date; called now and then, on the thread that feeds `machine`."""
        for arm, values in self._window.summary().items():
            metrics.ARM_AUC.labels(self.group, arm).set(values["auc"])
            metrics.ARM_LOG_LOSS.labels(self.group, arm).set(values["log_loss"])
            metrics.ARM_CALIBRATION.labels(self.group, arm).set(values["calibration"])
        metrics.JUDGED_LISTS.labels(self.group).set(len(self._lists))
        for arm, values in self._lists.summary().items():
            metrics.ARM_REQUEST_AUC.labels(self.group, arm).set(values["request_auc"])
            for at in NDCG_AT:
                metrics.ARM_NDCG.labels(self.group, arm, str(at)).set(values[f"ndcg_{at}"])
        metrics.KERNEL_DISTANCE.labels(self.group).set(machine.learner.distance())
        metrics.OPEN_REQUESTS.labels(self.group).set(len(machine.join))
        metrics.WATERMARK.labels(self.group).set(machine.join.watermark)
        metrics.LEARN_QUEUE.labels(self.group).set(waiting)
        for reason, count in machine.dropped.items():
            metrics.JOIN_DROPPED.labels(self.group, reason).inc(max(0, count - self._dropped.get(reason, 0)))
            self._dropped[reason] = count


def request_numbers(batch: MicroBatch) -> NDArray[np.int64] | None:
    """Which request of the batch each example belongs to, `(n,)`, rising from 0.

    A request's examples lie together and share its time and domain. None where the batch refers to more requests than
    can be told apart so: as one list they would be judged by an order that nobody saw.
    """
    time, domain = batch.time.numpy(), batch.domain.numpy()
    first = np.ones(len(batch), dtype=bool)
    first[1:] = (np.diff(time) != 0) | (np.diff(domain, axis=0) != 0).any(axis=1)
    if batch.origin and int(first.sum()) != len(batch.origin):
        return None
    return np.cumsum(first) - 1

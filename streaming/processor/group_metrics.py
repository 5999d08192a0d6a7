"""Prometheus metrics of one group: the arms' quality, scored before learning, and the progress of the learner."""

from __future__ import annotations

import numpy as np
import torch

from model.encoding.domain import FACETS, DomainSpace
from model.evaluation import PrequentialWindow
from model.gate.harm import COMPARISONS
from model.kernel.batch import MicroBatch
from model.kernel.learner import Learner
from model.ranking import NDCG_AT, ListWindow
from model.uplift import Uplift
from streaming.events.status import GroupStatus
from streaming.group.conversion_head import ConversionHead
from streaming.group.learned import Learned
from streaming.group.machine import GroupMachine
from streaming.monitoring import metrics
from streaming.processor.drift_metrics import DriftMetrics
from streaming.processor.status import ShownStrata, group_status

WINDOW_EXAMPLES = 5_000
WINDOW_LISTS = 2_000
"""Number of recent requests with both labels whose order is measured; fewer would be too noisy."""


class GroupMetrics:
    """Updates the metrics of one group. The arms' scores are those that were served."""

    def __init__(self, group: str, space: DomainSpace, shown: ShownStrata) -> None:
        self.group = group
        self._shown, self._drift = shown, DriftMetrics(group)
        self._space = space
        self._last: MicroBatch | None = None
        self._window = PrequentialWindow(WINDOW_EXAMPLES)
        self._lists = ListWindow(WINDOW_LISTS)
        self._exported: dict[str, int] = {}
        # A counter that exists only from its first count on has not increased for Prometheus: no alert would see it.
        for reason in metrics.join.DROP_REASONS:
            metrics.join.JOIN_DROPPED.labels(group, reason)

    def learned(self, learned: Learned, seconds: float) -> None:
        """Counts one micro-batch, which took `seconds` to learn."""
        metrics.learner.LEARN_SECONDS.labels(self.group).observe(seconds)
        batch = learned.batch
        clicks = int(batch.label.sum())
        metrics.join.EXAMPLES_JOINED.labels(self.group, "click").inc(clicks)
        metrics.join.EXAMPLES_JOINED.labels(self.group, "no_click").inc(len(batch) - clicks)
        metrics.learner.EXAMPLES_LEARNED.labels(self.group).inc(len(batch))
        self._last = batch
        metrics.learner.MATCHING_PROBABILITY.labels(self.group).set(learned.report.matching)
        for arm, share in learned.report.arms.items():
            metrics.learner.KERNEL_TRUST.labels(self.group, arm).set(share)
        logits = {
            "frozen": batch.frozen_logit,
            "live": batch.live_logit,
            "candidate": learned.report.candidate_logit,
        }
        self._window.add(batch.label.numpy(), {arm: torch.sigmoid(logit).numpy() for arm, logit in logits.items()})
        self._lists.add(batch.label.numpy(), {arm: logit.numpy() for arm, logit in logits.items()}, learned.request)

    def status(self, machine: GroupMachine, wall: float) -> GroupStatus:
        """The status of `machine` at wall-clock time `wall`, s, taken between two records; updates its drift
        metrics."""
        look = self._shown.look(machine)
        self._drift.export(look)
        request_auc = {arm: values["request_auc"] for arm, values in self._lists.summary().items()}
        return group_status(machine, look, wall, request_auc)

    def summarise(self, machine: GroupMachine, waiting: int) -> None:
        """Updates the gauges; called now and then, on the thread that feeds `machine`."""
        for arm, values in self._window.summary().items():
            metrics.learner.ARM_AUC.labels(self.group, arm).set(values["auc"])
            metrics.learner.ARM_LOG_LOSS.labels(self.group, arm).set(values["log_loss"])
            metrics.learner.ARM_CALIBRATION.labels(self.group, arm).set(values["calibration"])
        metrics.learner.JUDGED_LISTS.labels(self.group).set(len(self._lists))
        for arm, values in self._lists.summary().items():
            metrics.learner.ARM_REQUEST_AUC.labels(self.group, arm).set(values["request_auc"])
            for at in NDCG_AT:
                metrics.learner.ARM_NDCG.labels(self.group, arm, str(at)).set(values[f"ndcg_{at}"])
        self._export_information(machine.learner)
        metrics.learner.KERNEL_DISTANCE.labels(self.group).set(machine.learner.distance())
        metrics.join.OPEN_REQUESTS.labels(self.group).set(len(machine.join.open))
        metrics.learner.LEARN_QUEUE.labels(self.group).set(waiting)
        self._export_uplift(machine.experiment.uplift)
        metrics.learner.LEARNING_STOPPED.labels(self.group).set(not machine.learning)
        self._export_join(machine)
        self._export_gate(machine)

    def _export_gate(self, machine: GroupMachine) -> None:
        gate = machine.guarded.gate
        metrics.learner.GATE_HELD.labels(self.group).set(bool(gate.held))
        metrics.learner.GATE_SET_ASIDE.labels(self.group).set(int(gate.quarantine.aside.sum()))
        metrics.learner.GATE_WAITING.labels(self.group).set(sum(len(batch.weight) for batch in gate.waiting))
        for comparison, most in zip(COMPARISONS, gate.harm.evidence.max(axis=0).tolist(), strict=True):
            metrics.learner.GATE_EVIDENCE.labels(self.group, comparison).set(most)

    def _export_join(self, machine: GroupMachine) -> None:
        group, join = self.group, machine.join
        metrics.join.WATERMARK.labels(group).set(join.time.frontier)
        metrics.join.FEEDBACK_UNREAD.labels(group).set(join.time.unread_s)
        metrics.join.LEARNING_PAUSED.labels(group).set(join.paused)
        metrics.join.JOIN_BYTES.labels(group, "open").set(join.open.bytes)
        metrics.join.JOIN_BYTES.labels(group, "closed").set(join.closed.memory_bytes)
        for kind, delay in join.delays.take():
            metrics.join.LABEL_DELAY.labels(group, kind).observe(delay)
        for reason, count in machine.dropped.items():
            metrics.join.JOIN_DROPPED.labels(group, reason).inc(self._new("dropped " + reason, count))
        for outcome, count in machine.late_clicks.counts.items():
            metrics.join.LATE_CLICKS.labels(group, outcome).inc(self._new("late " + outcome, count))
        for when, count in machine.conversions.counts.items():
            metrics.join.CONVERSIONS.labels(group, when).inc(self._new("conversions " + when, count))
        if machine.conversions.head is not None:
            self._export_conversions(machine.conversions.head)
        metrics.join.AHEAD_OF_BROKER.labels(group).inc(self._new("ahead", join.ahead))

    def _export_conversions(self, head: ConversionHead) -> None:
        metrics.join.CONVERSION_EXAMPLES.labels(self.group).inc(self._new("conversion examples", head.learned))
        metrics.join.CVR_HELD.labels(self.group).set(bool(head.gate.held))
        metrics.join.CVR_SET_ASIDE.labels(self.group).set(int(head.gate.quarantine.aside.sum()))
        if len(head.window):
            metrics.join.CVR_RATE.labels(self.group).set(head.window.label_rate)
        for arm, values in head.window.summary().items():
            metrics.join.CVR_LOG_LOSS.labels(self.group, arm).set(values["log_loss"])
            metrics.join.CVR_AUC.labels(self.group, arm).set(values["auc"])

    def _new(self, name: str, count: int) -> int:
        """The increase of a count since the last call; a recovery restarts it at zero."""
        before, self._exported[name] = self._exported.get(name, 0), count
        return max(0, count - before)

    def _export_uplift(self, uplift: Uplift) -> None:
        """The difference between the live arm's users and the control users; nothing before the first look."""
        if uplift.control.share == 0:
            return
        users, requests = uplift.users(), uplift.requests()
        for arm in users:
            metrics.learner.UPLIFT_USERS.labels(self.group, arm).set(users[arm])
            metrics.learner.UPLIFT_REQUESTS.labels(self.group, arm).set(requests[arm])
        for effect in uplift.look.effects if uplift.look is not None else ():
            metrics.learner.UPLIFT.labels(self.group, effect.ratio).set(effect.live - effect.frozen)
            if effect.low is not None and effect.high is not None:
                metrics.learner.UPLIFT_LOW.labels(self.group, effect.ratio).set(effect.low)
                metrics.learner.UPLIFT_HIGH.labels(self.group, effect.ratio).set(effect.high)

    def _export_information(self, learner: Learner) -> None:
        """What the kernel keeps of the representation, what it has learned, and what it now learns, in nats."""
        compression = learner.start.compression
        metrics.learner.COMPRESSION_NATS_KEPT.labels(self.group).set(compression.nats_kept)
        metrics.learner.COMPRESSION_NATS_RELEVANT.labels(self.group).set(compression.nats_relevant)
        metrics.learner.MATCHING_NATS.labels(self.group).set(learner.nats())
        if self._last is None:
            return
        gain, domain = learner.gain(self._last).numpy(), self._last.domain.numpy()
        metrics.learner.MATCHING_GAIN_NATS.labels(self.group).set(float(gain.mean()))
        for column, facet in enumerate(FACETS):
            for index in np.unique(domain[:, column]):
                mean = float(gain[domain[:, column] == index].mean())
                value = self._space.values[facet][index]
                metrics.learner.MATCHING_FACET_GAIN_NATS.labels(self.group, facet, value).set(mean)

"""The parts of a kernel group, and the counts and live rows that they hold together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from features.live.features import LiveFeatures
from features.live.layout import Kind, LiveRow
from features.live.tasks import split_by_task
from model.config import LearnerConfig
from model.control_users import NO_CONTROL, ControlUsers
from model.drift.config import DriftConfig
from model.drift.reference import Reference
from model.encoding.domain import DomainSpace
from model.gate.config import GateConfig
from model.gate.gate import Gate
from model.gate.guarded import GuardedLearner
from model.kernel.compatibility import dependencies
from model.kernel.learner import Learner
from streaming.config import JoinConfig
from streaming.events.decisions import Decision
from streaming.processor.batches import micro_batch, scored_examples
from streaming.processor.conversion_head import ConversionHead
from streaming.processor.corrections import Corrections, LoggedRequests, LoggedTraffic
from streaming.processor.experiment import Experiment
from streaming.processor.group_conversions import GroupConversions
from streaming.processor.group_drift_monitor import GroupDriftMonitor
from streaming.processor.join import Join, LabelledRequest
from streaming.processor.kernel_publisher import KernelPublisher
from streaming.processor.learned import PublishedKernel
from streaming.processor.mature_requests import MatureRequests
from streaming.processor.pending_requests import PendingRequests
from streaming.processor.recovery import Recovery
from streaming.processor.traffic_reader import TrafficReader, Widths

MATURE_WAIT = 0.01
"""Share of the conversion window for which mature clicks wait for more of them, short beside what they have waited."""


class GroupParts:
    """The parts of one group. `dropped` counts unusable records, by reason."""

    learning = True
    """False while an operator has stopped learning; labelled requests are then skipped and counted."""
    _lost_before = _kept_written = 0
    _recovery: Recovery | None = None
    _position = _rows_offset = 0

    def __init__(
        self,
        group: str,
        *,
        fingerprint: str,
        widths: Widths,
        space: DomainSpace,
        learner: Learner,
        live: LiveFeatures,
        first_rows: Sequence[LiveRow],
        join: JoinConfig,
        config: LearnerConfig,
        gate: GateConfig,
        control: ControlUsers = NO_CONTROL,
        traffic: LoggedTraffic,
        drift: DriftConfig,
        reference: Reference | None = None,
        conversions: ConversionHead | None = None,
    ) -> None:
        """`first_rows` are the live rows before the first record; `traffic` is the log, for looking up late clicks.

        `reference` is the drift reference; if None, the group's first examples become it.
        """
        self.group, self.learner, self.live = group, learner, live
        self.guarded = _guarded(learner, gate, space)
        self.drift = GroupDriftMonitor(group, self.guarded.gate, space, drift, reference)
        self._decisions: list[Decision] = []
        self.first_keys: frozenset[tuple[Kind, str]] = frozenset((row.kind, row.key) for row in first_rows)
        mature = None if conversions is None else MatureRequests(join.conversion_window_s * MATURE_WAIT)
        self.join = Join(join, mature)
        self._skipped: Counter[str] = Counter()
        self.experiment = Experiment(group, control)
        self.publisher = KernelPublisher(group, fingerprint, dependencies(learner.start, space.sizes), conversions)
        self._reader = TrafficReader(group, fingerprint, widths)
        self._logged = LoggedRequests(self._reader, traffic)
        looked_up = self.join.closed, self._logged, self.join.dropped
        self._late = Corrections("click", *looked_up)
        later = Corrections("conversion", *looked_up)
        self.conversions = GroupConversions(later, self._logged, self.experiment, conversions, mature)
        self.restore_rows(first_rows)
        self.late_clicks: Counter[str] = Counter()
        """Late clicks by outcome: relabelled, corrected."""
        self._space, self._config, self._fingerprint = space, config, fingerprint
        self._pending = PendingRequests()

    @property
    def position(self) -> int:
        """Offset of the next record to take; earlier ones are skipped."""
        return self._position

    @property
    def rows_offset(self) -> int:
        """The live rows contain all records before this offset and none from it on."""
        return max(self._position, self._rows_offset)

    @property
    def _rows_follow(self) -> bool:
        """Whether live rows take what is learned; not while they already contain it, restored from a newer cut."""
        return self._position > self._rows_offset

    @property
    def newest_event_time(self) -> float:
        """Event time of the newest example that was learned, seconds; minus infinity before the first."""
        return self.publisher.newest_event_time

    @property
    def examples(self) -> int:
        """Number of examples that were learned."""
        return self.publisher.examples

    @property
    def version(self) -> int:
        """Version of the newest kernel; 0 before the first."""
        return self.publisher.version

    @property
    def published(self) -> PublishedKernel | None:
        """The newest kernel published since this machine was made; earlier ones are in the kernel log."""
        return self.publisher.published

    @property
    def recovering(self) -> bool:
        """Whether it is re-reading records that its snapshot has already learned."""
        return self._recovery is not None

    @property
    def dropped(self) -> Counter[str]:
        """Unusable records by reason, counted since this machine was made."""
        mature = self.conversions.mature
        evicted = Counter({"immature": 0 if mature is None else mature.evicted})
        return self._reader.refused + self.join.dropped + self._skipped + self.experiment.dropped + evicted

    @property
    def _lost_feedback(self) -> int:
        return self.join.dropped["late_feedback"] + self.join.dropped["orphan_feedback"]

    # --- live rows of both tasks ---

    def take_changed_rows(self) -> list[LiveRow]:
        """Rows touched since the last call, and tombstones."""
        head = self.conversions.head
        return [*self.live.take_changed(), *([] if head is None else head.take_changed())]

    def rows(self) -> list[LiveRow]:
        """All live rows of both tasks."""
        head = self.conversions.head
        return [*self.live.rows(), *([] if head is None else head.rows())]

    def restore_rows(self, rows: Iterable[LiveRow]) -> None:
        """Restores live rows of both tasks; a backbone of clicks alone has none of conversions."""
        clicks, conversions = split_by_task(rows)
        self.live.restore(clicks)
        if self.conversions.head is not None:
            self.conversions.head.live.restore(conversions)


def _guarded(learner: Learner, config: GateConfig, space: DomainSpace) -> GuardedLearner[LabelledRequest]:
    gate = Gate[LabelledRequest](config, space.values, lambda requests: scored_examples(requests, space))
    return GuardedLearner(learner, gate, lambda requests: micro_batch(requests, space))

"""The parts of a kernel group, how they are put together, and what they are made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from features.live.features import LiveFeatures
from features.live.layout import Kind, LiveRow
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
from streaming.group.batch_recorder import BatchRecorder
from streaming.group.batches import micro_batch, scored_examples
from streaming.group.checkpoints import Checkpoints
from streaming.group.conversion_head import ConversionHead
from streaming.group.conversions import GroupConversions
from streaming.group.corrections import Corrections, LoggedRequests, LoggedTraffic
from streaming.group.decisions import GroupDecisions
from streaming.group.drift_monitor import GroupDriftMonitor
from streaming.group.experiment import Experiment
from streaming.group.guarded_join import GuardedJoin
from streaming.group.kernel_publisher import KernelPublisher
from streaming.group.late_clicks import LateClicks
from streaming.group.live_rows import GroupRows
from streaming.group.lost_feedback import LostFeedback
from streaming.group.pending_requests import PendingRequests
from streaming.group.traffic_reader import TrafficReader, Widths
from streaming.join.join import Join, LabelledRequest
from streaming.join.mature_requests import MatureRequests

MATURE_WAIT = 0.01
"""Share of the conversion window for which mature clicks wait for more of them, short beside what they have waited."""


@dataclass(frozen=True)
class GroupSpec:
    """What a group is made from: its settings, and a learner and live features that have not learned anything yet."""

    group: str
    fingerprint: str
    """Fingerprint of the backbone; impressions of another one are refused."""
    widths: Widths
    space: DomainSpace
    learner: Learner
    live: LiveFeatures
    first_rows: Sequence[LiveRow]
    """The live rows before the first record."""
    traffic: LoggedTraffic
    """The group's log, in which late clicks find their impressions."""
    join: JoinConfig
    config: LearnerConfig
    gate: GateConfig
    drift: DriftConfig
    control: ControlUsers = NO_CONTROL
    reference: Reference | None = None
    """The drift reference; if None, the group's first examples become it."""
    conversions: ConversionHead | None = None
    """The conversion task; None for a backbone of clicks alone."""


@dataclass(frozen=True)
class GroupParts:
    """The parts of one group. Together with position, recovery and `learning` they are the state of `GroupMachine`."""

    group: str
    fingerprint: str
    config: LearnerConfig
    first_keys: frozenset[tuple[Kind, str]]
    """Keys of the live rows before the first record."""
    reader: TrafficReader
    logged: LoggedRequests
    join: Join
    guarded_join: GuardedJoin
    experiment: Experiment
    pending: PendingRequests
    lost: LostFeedback
    guarded: GuardedLearner[LabelledRequest]
    checkpoints: Checkpoints
    recorder: BatchRecorder
    rows: GroupRows
    late_clicks: LateClicks
    conversions: GroupConversions
    publisher: KernelPublisher
    drift: GroupDriftMonitor
    decisions: GroupDecisions
    skipped: Counter[str]
    """Labelled requests and late clicks that were not learned, by reason."""

    @property
    def dropped(self) -> Counter[str]:
        """Unusable records by reason, counted since the parts were made."""
        mature = self.conversions.mature
        evicted = Counter({"immature": 0 if mature is None else mature.evicted})
        return self.reader.refused + self.join.dropped + self.skipped + self.experiment.dropped + evicted


def assemble(spec: GroupSpec) -> GroupParts:
    """The parts of a group that has not taken any record yet."""
    group, space, head, skipped = spec.group, spec.space, spec.conversions, Counter[str]()
    mature = None if head is None else MatureRequests(spec.join.conversion_window_s * MATURE_WAIT)
    join = Join(spec.join, mature)
    reader = TrafficReader(group, spec.fingerprint, spec.widths)
    logged = LoggedRequests(reader, spec.traffic)
    looked_up = join.closed, logged, join.dropped, spec.config.batch_examples, spec.config.batch_seconds
    late, later = Corrections("click", *looked_up), Corrections("conversion", *looked_up)
    guarded = _guarded(spec)
    rows, experiment = GroupRows(spec.live, head), Experiment(group, spec.control)
    rows.restore(spec.first_rows)
    publisher = _publisher(spec, guarded)
    return GroupParts(
        group=group,
        fingerprint=spec.fingerprint,
        config=spec.config,
        first_keys=frozenset((row.kind, row.key) for row in spec.first_rows),
        reader=reader,
        logged=logged,
        join=join,
        guarded_join=GuardedJoin(group, join, reader),
        experiment=experiment,
        pending=PendingRequests(),
        lost=LostFeedback(join),
        guarded=guarded,
        checkpoints=Checkpoints(group, guarded),
        recorder=BatchRecorder(group, join.closed, rows, publisher, skipped),
        rows=rows,
        late_clicks=LateClicks(group, late, guarded=guarded, rows=rows, space=space, skipped=skipped),
        conversions=GroupConversions(
            group, later, logged=logged, experiment=experiment, head=head, mature=mature, skipped=skipped
        ),
        publisher=publisher,
        drift=GroupDriftMonitor(group, guarded.gate, space, spec.drift, spec.reference),
        decisions=GroupDecisions(group),
        skipped=skipped,
    )


def _guarded(spec: GroupSpec) -> GuardedLearner[LabelledRequest]:
    space = spec.space
    gate = Gate[LabelledRequest](spec.gate, space.values, lambda requests: scored_examples(requests, space))
    return GuardedLearner(spec.learner, gate, lambda requests: micro_batch(requests, space))


def _publisher(spec: GroupSpec, guarded: GuardedLearner[LabelledRequest]) -> KernelPublisher:
    return KernelPublisher(
        spec.group,
        spec.fingerprint,
        guarded=guarded,
        depends_on=dependencies(spec.learner.start, spec.space.sizes),
        publish_seconds=spec.config.publish_seconds,
        conversions=spec.conversions,
    )

"""One kernel group as a deterministic state machine over its partition: join -> learn -> live features -> publish.

No broker, no clock, no thread in here. The same records from the same state give the same kernel, bit for bit, wherever
snapshots were taken and however often records are read again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from features.live import LiveFeatures, LiveRow, RequestOutcome
from model.batch import MicroBatch
from model.checkpoint import KernelInfo
from model.config import LearnerConfig
from model.domain import DomainSpace
from model.kernel import Kernel
from model.learner import Learner, LearnReport
from streaming.config import JoinConfig
from streaming.events import PAYLOADS, ServedImpression, Traffic, decode_traffic
from streaming.join import ClosedRequest, Join
from streaming.snapshots import GroupSnapshot, RequestRef

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Widths:
    """Widths of what an impression carries: representation, live features, content."""

    x: int
    live: int
    content: int


@dataclass(frozen=True)
class PublishedKernel:
    """A kernel that the group stands for, with its card."""

    kernel: Kernel
    info: KernelInfo


@dataclass(frozen=True)
class Learned:
    """What one micro-batch did."""

    batch: MicroBatch
    report: LearnReport
    published: PublishedKernel | None


@dataclass
class _Recovery:
    snapshot: GroupSnapshot
    found: dict[int, ServedImpression | None]
    """Impressions that pending and rehearsed examples refer to, by offset."""


def _pack(bits: NDArray[np.bool_]) -> bytes:
    return np.packbits(bits).tobytes()


def _unpack(data: bytes, n: int) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=n).astype(np.bool_)


def _ref(request: ClosedRequest) -> RequestRef:
    return RequestRef(request.offset, _pack(request.clicks), _pack(request.conversions))


class GroupMachine:
    """Learns one group from its records in order. `dropped` counts records it could not use, by reason."""

    def __init__(
        self,
        group: str,
        *,
        fingerprint: str,
        widths: Widths,
        space: DomainSpace,
        learner: Learner,
        live: LiveFeatures,
        join: JoinConfig,
        config: LearnerConfig,
    ) -> None:
        self.group = group
        self.learner = learner
        self.live = live
        self.join = Join(join)
        self.published: PublishedKernel | None = None
        """The newest kernel published since this machine began; an earlier one stands in the kernel log."""
        self.examples = 0
        self.version = 0
        self.refused: Counter[str] = Counter()
        self._fingerprint = fingerprint
        self._widths = widths
        self._space = space
        self._config = config
        self._position = 0
        self._pending: list[ClosedRequest] = []
        self._pending_since = 0.0
        self._published_at = float("-inf")
        self._newest_event_time = float("-inf")
        self._recovery: _Recovery | None = None

    @property
    def position(self) -> int:
        """Offset of the next record it will take; earlier ones are skipped."""
        return self._position

    @property
    def recovering(self) -> bool:
        """Whether it still re-reads records that its snapshot has already learned from."""
        return self._recovery is not None

    @property
    def dropped(self) -> Counter[str]:
        """Records that could not be used, by reason, since this machine began."""
        return self.refused + self.join.dropped

    # --- records ---

    def feed(self, offset: int, value: bytes) -> list[Learned]:
        """Takes the record at `offset`; returns the micro-batches it completed. A record seen before is skipped."""
        if offset < self._position:
            return []
        self._position = offset + 1
        if self._recovery is not None:
            if offset < self._recovery.snapshot.next_offset:
                self._reread(self._recovery, offset, value)
                return []
            self._finish_recovery(self._recovery)
        record = self._decode(value)
        if record is None:
            return []
        return self._take(offset, record)

    def _take(self, offset: int, record: Traffic) -> list[Learned]:
        learned = []
        for request in self.join.feed(offset, record):
            if not self._pending:
                self._pending_since = self.join.watermark
            self._pending.append(request)
            if sum(len(r.impression.items) for r in self._pending) >= self._config.batch_examples:
                learned.append(self._learn())
        if self._pending and self.join.watermark - self._pending_since >= self._config.batch_seconds:
            learned.append(self._learn())
        return learned

    def _decode(self, value: bytes) -> Traffic | None:
        try:
            record = decode_traffic(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.refused["undecodable"] += 1
            return None
        problem = self._problem(record)
        if problem is None:
            return record
        self.refused[problem] += 1
        return None

    def _problem(self, record: Traffic) -> str | None:
        if not np.isfinite(record.time):
            return "bad_payload"
        if not isinstance(record, ServedImpression):
            return None
        if record.fingerprint != self._fingerprint:
            return "other_backbone"
        return None if self._sound(record) else "bad_payload"

    def _sound(self, record: ServedImpression) -> bool:
        n = len(record.items)
        sizes = (
            (record.x, 2 * n * self._widths.x),
            (record.live, 4 * n * self._widths.live),
            (record.content, 2 * n * self._widths.content),
            (record.frozen_logit, 4 * n),
            (record.live_logit, 4 * n),
        )
        if n == 0 or any(len(data) != size for data, size in sizes):
            return False
        return all(bool(np.isfinite(record.array(name)).all()) for name in PAYLOADS)

    # --- learning ---

    def _learn(self) -> Learned:
        requests, self._pending = self._pending, []
        batch = self._batch(requests)
        report = self.learner.learn(batch)
        self.live.update([self._outcome(request) for request in requests])
        self.examples += len(batch)
        self._newest_event_time = max(self._newest_event_time, float(batch.time.max()))
        published = None
        if self.join.watermark - self._published_at >= self._config.publish_seconds:
            published = self._publish()
        return Learned(batch, report, published)

    def _publish(self) -> PublishedKernel:
        self.version += 1
        self._published_at = self.join.watermark
        info = KernelInfo(
            group=self.group,
            version=self.version,
            backbone_fingerprint=self._fingerprint,
            newest_event_time=self._newest_event_time,
            examples=self.examples,
        )
        self.published = PublishedKernel(self.learner.publish(), info)
        return self.published

    def _batch(self, requests: Sequence[ClosedRequest]) -> MicroBatch:
        impressions = [request.impression for request in requests]
        counts = [len(impression.items) for impression in impressions]

        def joined(name: str) -> torch.Tensor:
            return torch.from_numpy(np.concatenate([i.array(name) for i in impressions]))  # type: ignore[arg-type]

        def repeated(values: NDArray[np.generic]) -> torch.Tensor:
            return torch.from_numpy(np.repeat(values, counts, axis=0))

        total = sum(counts)
        return MicroBatch(
            x=joined("x"),
            live=joined("live"),
            domain=repeated(self._space.encode_many([i.domain for i in impressions])),
            label=torch.from_numpy(np.concatenate([r.clicks for r in requests]).astype(np.float32)),
            conversion=torch.from_numpy(np.concatenate([r.conversions for r in requests]).astype(np.float32)),
            frozen_logit=joined("frozen_logit"),
            live_logit=joined("live_logit"),
            weight=torch.ones(total),
            time=repeated(np.array([i.time for i in impressions], dtype=np.float64)),
            origin=tuple(_ref(request) for request in requests),
        )

    @staticmethod
    def _outcome(request: ClosedRequest) -> RequestOutcome:
        impression = request.impression
        frozen = 1.0 / (1.0 + np.exp(-impression.array("frozen_logit")))
        return RequestOutcome(
            user_id=impression.user_id,
            domain=impression.domain,
            items=impression.items,
            content=impression.array("content"),
            residual=(request.clicks - frozen).astype(np.float32),
            time=impression.time,
        )

    # --- state ---

    def snapshot(self) -> GroupSnapshot:
        """The state between two records. Raises RuntimeError while it recovers: the old snapshot still holds."""
        if self._recovery is not None:
            raise RuntimeError(f"group {self.group!r} has not finished its recovery")
        point = self.join.resume_point
        return GroupSnapshot(
            group=self.group,
            fingerprint=self._fingerprint,
            next_offset=self._position,
            version=self.version,
            examples=self.examples,
            newest_event_time=self._newest_event_time,
            published_at=self._published_at,
            watermark=self.join.watermark,
            join_offset=self._position if point is None else point.offset,
            join_watermark=self.join.watermark if point is None else point.watermark,
            pending=[_ref(request) for request in self._pending],
            pending_since=self._pending_since,
            recent=[[ref for ref in batch.origin if isinstance(ref, RequestRef)] for batch in self.learner.recent],
            learner=self.learner.snapshot(),
        )

    def restore(self, snapshot: GroupSnapshot, rows: Iterable[LiveRow]) -> None:
        """Goes back to `snapshot`; records from `snapshot.resume_offset` on must follow."""
        self.live.restore(rows)
        self.version, self.examples = snapshot.version, snapshot.examples
        self._newest_event_time, self._published_at = snapshot.newest_event_time, snapshot.published_at
        self._pending_since = snapshot.pending_since
        self._position = snapshot.resume_offset
        self.join.watermark = snapshot.join_watermark
        wanted: dict[int, ServedImpression | None] = {
            ref.offset: None for batch in (snapshot.pending, *snapshot.recent) for ref in batch
        }
        self._recovery = _Recovery(snapshot, wanted)

    def _reread(self, recovery: _Recovery, offset: int, value: bytes) -> None:
        needed = offset in recovery.found
        if not needed and offset < recovery.snapshot.join_offset:
            return
        record = self._decode(value)
        if record is None:
            return
        if needed and isinstance(record, ServedImpression):
            recovery.found[offset] = record
        if offset >= recovery.snapshot.join_offset:
            self.join.feed(offset, record)  # what closes here was learned before the snapshot

    def _finish_recovery(self, recovery: _Recovery) -> None:
        snapshot = recovery.snapshot
        self.join.dropped.clear()
        self.refused.clear()
        missing = sum(1 for record in recovery.found.values() if record is None)
        if missing or self.join.watermark != snapshot.watermark:
            log.warning(
                "group %s: traffic lacks what its snapshot refers to (%d requests gone, watermark %s, was %s); "
                "rehearsal goes on without them, open requests among them are lost; raise topics.traffic_retention_h",
                self.group,
                missing,
                self.join.watermark,
                snapshot.watermark,
            )
            self.refused["lost_in_recovery"] += missing
            self.join.watermark = max(self.join.watermark, snapshot.watermark)
        self._pending = self._rebuild(recovery, snapshot.pending)
        recent = [self._rebuild(recovery, batch) for batch in snapshot.recent]
        self.learner.restore(snapshot.learner, [self._batch(requests) for requests in recent if requests])
        self._recovery = None

    @staticmethod
    def _rebuild(recovery: _Recovery, refs: Sequence[RequestRef]) -> list[ClosedRequest]:
        requests = []
        for ref in refs:
            impression = recovery.found[ref.offset]
            if impression is not None:
                n = len(impression.items)
                requests.append(
                    ClosedRequest(ref.offset, impression, _unpack(ref.clicks, n), _unpack(ref.conversions, n))
                )
        return requests

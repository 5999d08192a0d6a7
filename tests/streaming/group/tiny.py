"""A small frozen backbone and a small group to learn: real kernel, real learner, real live features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from features.config import LiveConfig
from features.live.features import LiveFeatures, LiveLayout, LiveRow
from features.live.layout import OVERALL, Crossing, Kind
from model.backbone.interface import fingerprint
from model.config import HistorySpec, LearnerConfig
from model.control_users import NO_CONTROL, ControlUsers
from model.drift.config import DriftConfig
from model.encoding.domain import Domain, DomainSpace
from model.encoding.features import FeatureBatch
from model.gate.config import GateConfig
from model.kernel.learner import Learner
from model.kernel.start import KernelStart
from streaming.config import JoinConfig
from streaming.events import (
    LearningOrder,
    Progress,
    ServedFeedback,
    ServedImpression,
    Tick,
    Traffic,
    decode_traffic,
    encode_traffic,
)
from streaming.group.corrections import LoggedRecord
from streaming.group.machine import GroupMachine
from streaming.group.parts import GroupSpec, assemble
from streaming.group.traffic_reader import Widths
from tests.streaming.small_start import start_of

torch.set_num_threads(1)
WIDTH, CONTENT = 8, 4
SPACE = DomainSpace({"scene": ["home"], "period": ["day", "night"]})
LAYOUT = LiveLayout.of(
    LiveConfig(),
    CONTENT,
    Crossing(5, ("genres", "year"), (0, 0, 1), (("period", SPACE.values["period"]),)),
    HistorySpec(4, skips=True),
)
START = start_of(LAYOUT, WIDTH)


class TinyBackbone(nn.Module):
    """Two layers: the smallest network that a kernel can adapt."""

    width, content_width, has_conversion = WIDTH, CONTENT, False

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, 2))
        self.requires_grad_(False).eval()

    @property
    def fingerprint(self) -> str:
        return fingerprint(self)

    def represent(self, batch: FeatureBatch) -> Tensor:
        raise NotImplementedError("the traffic of these tests carries its representations")

    def predict(self, x: Tensor, domain: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits

    def content(self, batch: FeatureBatch) -> Tensor:
        raise NotImplementedError("the traffic of these tests carries its content vectors")


BACKBONE = TinyBackbone()
LEARNER = LearnerConfig(batch_examples=16, batch_seconds=5, publish_seconds=2)
GATE = GateConfig(label_odds=1e9, user_share=1.0, item_share=1.0, late_share=1.0)
"""As good as open: six users and labels of chance are no traffic for a gate."""
JOIN = JoinConfig(window_s=3, lateness_s=0.5)


KEYS: tuple[tuple[Kind, str], ...] = (
    ("user", "u1"), ("user", "u2"), ("user", "gone"), ("item", "i3"), ("item", "never"), ("domain", OVERALL),
)  # fmt: skip
LIVE = LiveConfig(max_users=5)
"""So few users that rows of the first ones are evicted."""
FIRST_ROWS = tuple(
    LiveRow(kind, key, 10.0 + number, np.full(LAYOUT.width_of(kind), 2.0 + number, dtype=np.float32))
    for number, (kind, key) in enumerate(KEYS)
)
"""What the pretraining log counted: users and items that come again, and some that never do."""


class MemoryLog:
    """Records of `traffic` by offset."""

    def __init__(self, values: Sequence[bytes | None]) -> None:
        self._values = values

    def read(self, offset: int) -> LoggedRecord | None:
        if offset >= len(self._values):
            return None
        return LoggedRecord(self._values[offset], appended(self._values[offset]))


def spec(
    group: str = "main",
    *,
    start: KernelStart = START,
    learner: LearnerConfig = LEARNER,
    live: LiveConfig = LIVE,
    join: JoinConfig = JOIN,
    first_rows: Sequence[LiveRow] = FIRST_ROWS,
    control: ControlUsers = NO_CONTROL,
    log: Sequence[bytes | None] = (),
    gate: GateConfig = GATE,
) -> GroupSpec:
    """What a small group is made from; `log` are the records that late clicks find their impressions in."""
    return GroupSpec(
        group=group,
        fingerprint=BACKBONE.fingerprint,
        widths=Widths.of(BACKBONE, LAYOUT),
        space=SPACE,
        learner=Learner(start, learner, fingerprint=BACKBONE.fingerprint, domain_sizes=SPACE.sizes),
        live=LiveFeatures(LAYOUT, live),
        first_rows=first_rows,
        join=join,
        config=learner,
        gate=gate,
        control=control,
        traffic=MemoryLog(log),
        drift=DriftConfig(),
    )


def machine(group: str = "main", **given: Any) -> GroupMachine:
    """A group of `spec` that has seen nothing yet."""
    return GroupMachine(assemble(spec(group, **given)))


def served(request: str, time: float, items: Sequence[str], random: np.random.Generator) -> ServedImpression:
    """An impression as the scorer logs it."""
    n = len(items)
    x = random.normal(size=(n, WIDTH)).astype("<f2")
    with torch.no_grad():
        logit = BACKBONE.predict(torch.from_numpy(x.astype(np.float32)), torch.zeros(n, 3, dtype=torch.int64))[:, 0]
    frozen = logit.numpy().astype("<f4").tobytes()
    live = random.normal(size=(n, LAYOUT.width)).astype("<f4").tobytes()
    content = random.normal(size=(n, CONTENT)).astype("<f2").tobytes()
    values = random.integers(-1, 5, size=(n, 3)).astype("<i2").tobytes()
    domain = Domain("home", "unknown", "day" if n % 2 else "night")
    return ServedImpression(
        request,
        time,
        f"u{n}",
        domain,
        list(items),
        BACKBONE.fingerprint,
        0,
        "live",
        x.tobytes(),
        live,
        content,
        values,
        frozen,
        frozen,
    )


def traffic(requests: int, seed: int = 0, prefix: str = "main.r", start: float = 1_000.0) -> list[Traffic]:
    """A stream of impressions with clicks on about half the items, and a tick that closes the last windows."""
    random = np.random.default_rng(seed)
    records: list[Traffic] = []
    time = start
    for number in range(requests):
        time += float(random.exponential(0.4))
        request = f"{prefix}{number}"
        items = [f"i{item}" for item in random.choice(30, size=int(random.integers(1, 7)), replace=False)]
        records.append(served(request, time, items, random))
        late = 0.3 * float(random.random())
        records += [ServedFeedback(request, item, time + late) for item in items if random.random() < 0.5]
        records.append(Progress({0: time}, 1))
    return [*records, Progress({0: time + 60}, 1), Tick(time + 60), Tick(time + 120)]


def appended(value: bytes | None) -> float:
    """When a broker whose clock agrees with the scorers' appended a record of `traffic`, seconds; 0 if it is none."""
    try:
        record = decode_traffic(value or b"")
    except (msgspec.DecodeError, RecursionError):
        return 0.0
    if isinstance(record, LearningOrder):
        return 0.0
    return max(record.read.values()) if isinstance(record, Progress) else record.time


def encoded(records: Sequence[Traffic]) -> list[bytes]:
    """The records encoded as in the `traffic` topic."""
    return [encode_traffic(record) for record in records]

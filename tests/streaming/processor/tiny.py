"""A small frozen backbone and a small group to learn: real kernel, real learner, real live features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from features.config import LiveConfig
from features.live.features import LiveFeatures, LiveLayout
from model.backbone.interface import fingerprint
from model.config import KernelConfig, LearnerConfig
from model.encoding.domain import Domain, DomainSpace
from model.encoding.features import FeatureBatch
from model.kernel.learner import Learner
from streaming.config import JoinConfig
from streaming.events import ServedFeedback, ServedImpression, Tick, Traffic, encode_traffic
from streaming.processor.machine import GroupMachine
from streaming.processor.traffic_reader import Widths

torch.set_num_threads(1)
WIDTH, CONTENT = 8, 4
KERNEL = KernelConfig(latent=4, hidden=8, domain_width=2)
SPACE = DomainSpace({"scene": ["home"], "period": ["day", "night"]})
LAYOUT = LiveLayout.of(LiveConfig(), CONTENT)


class TinyBackbone(nn.Module):
    """Two layers: the smallest trunk that a kernel can stand before."""

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
LEARNER = LearnerConfig(batch_examples=16, batch_seconds=5, publish_seconds=2, rehearsal_steps=2, rehearsal_batches=4)
JOIN = JoinConfig(window_s=3, lateness_s=0.5, max_open=1_000)


def machine(
    group: str = "main",
    *,
    kernel: KernelConfig = KERNEL,
    learner: LearnerConfig = LEARNER,
    join: JoinConfig = JOIN,
) -> GroupMachine:
    """A group that has seen nothing yet."""
    return GroupMachine(
        group,
        fingerprint=BACKBONE.fingerprint,
        widths=Widths(WIDTH, LAYOUT.width, CONTENT),
        space=SPACE,
        learner=Learner(
            BACKBONE,
            kernel,
            learner,
            live_width=LAYOUT.width,
            domain_sizes=SPACE.sizes,
        ),
        live=LiveFeatures(LAYOUT, LiveConfig()),
        join=join,
        config=learner,
    )


def served(request: str, time: float, items: Sequence[str], random: np.random.Generator) -> ServedImpression:
    """An impression as the scorer logs it."""
    n = len(items)
    x = random.normal(size=(n, WIDTH)).astype("<f2")
    with torch.no_grad():
        logit = BACKBONE.predict(torch.from_numpy(x.astype(np.float32)), torch.zeros(n, 3, dtype=torch.int64))[:, 0]
    frozen = logit.numpy().astype("<f4").tobytes()
    live = random.normal(size=(n, LAYOUT.width)).astype("<f4").tobytes()
    content = random.normal(size=(n, CONTENT)).astype("<f2").tobytes()
    domain = Domain("home", "unknown", "day" if n % 2 else "night")
    return ServedImpression(
        request, time, f"u{n}", domain, list(items), BACKBONE.fingerprint, 0, x.tobytes(), live, content, frozen, frozen
    )


def traffic(requests: int, seed: int = 0, prefix: str = "main.r") -> list[Traffic]:
    """A stream of impressions with clicks on about half the items, and a tick that closes the last windows."""
    random = np.random.default_rng(seed)
    records: list[Traffic] = []
    time = 1_000.0
    for number in range(requests):
        time += float(random.exponential(0.4))
        request = f"{prefix}{number}"
        items = [f"i{item}" for item in random.choice(30, size=int(random.integers(1, 7)), replace=False)]
        records.append(served(request, time, items, random))
        late = 0.3 * float(random.random())
        records += [ServedFeedback(request, item, time + late) for item in items if random.random() < 0.5]
    return [*records, Tick(time + 60), Tick(time + 120)]


def encoded(records: Sequence[Traffic]) -> list[bytes]:
    """The records as they stand in the `traffic` topic."""
    return [encode_traffic(record) for record in records]

"""A small simulated stream with a frozen model that fits it, and a monitor that observes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from model.drift.config import DriftConfig
from model.drift.monitor import DriftMonitor
from model.drift.reference import Reference
from model.drift.signs import LabelHealth
from model.drift.verdict import Alarm, Verdict, VerdictKind
from model.encoding.domain import DomainSpace
from model.gate.scored_examples import Doubles, ScoredExamples, Strata

SPACE = DomainSpace({"scene": ["home", "search"], "region": ["north", "south"]})
STRATA = Strata(SPACE.values)
WIDTH, ITEMS, BATCH = 8, 8, 16
HEALTHY = LabelHealth(aside=np.zeros(len(STRATA), dtype=np.bool_))
Change = Callable[["Batch"], None]


class Batch:
    """Requests of a micro-batch; a test changes what it wants to be otherwise."""

    def __init__(self, rng: np.random.Generator, requests: int = BATCH) -> None:
        self.rng = rng
        self.domain = np.column_stack([rng.integers(1, 3, requests), rng.integers(1, 3, requests), np.zeros(requests)])
        self.domain = self.domain.astype(np.int64)
        self.request = np.repeat(np.arange(requests), ITEMS)
        n = requests * ITEMS
        self.x = rng.standard_normal((n, WIDTH)).astype(np.float32)
        self.frozen = -1.5 + 1.3 * rng.standard_normal(n)
        self.truth = self.frozen + 0.0
        self.live = self.frozen + 0.1 * rng.standard_normal(n)
        self.flip = np.zeros(n, dtype=np.bool_)
        self.lost = np.zeros(n, dtype=np.bool_)
        self.health = HEALTHY
        self.users = [str(one) for one in range(requests)]

    def within(self, facet: int, value: int) -> Any:
        """Examples of one facet value."""
        return self.domain[self.request, facet] == value

    def new_taste(self, where: Any = slice(None)) -> None:
        """What is clicked has nothing to do with what was, and less of it is shown."""
        fresh = -2.2 + 1.0 * self.rng.standard_normal(len(self.truth))
        self.truth[where] = fresh[where]

    def label(self) -> Doubles:
        clicked = self.rng.random(len(self.truth)) < 1 / (1 + np.exp(-self.truth))
        return np.asarray(np.where(self.flip, ~clicked, clicked & ~self.lost), dtype=np.float64)


class Raters:
    """Users who judge sixteen requests in a row, four at a time, each with leanings that the frozen model knows not."""

    def __init__(self, leaning: float = 1.0) -> None:
        self._leaning, self._batches = leaning, 0

    def __call__(self, batch: Batch) -> None:
        session, self._batches = self._batches // 4, self._batches + 1
        rng = np.random.default_rng(session)
        leanings, homes = self._leaning * rng.standard_normal(4), rng.integers(1, 3, (4, 2))
        of = np.arange(len(batch.domain)) % 4
        batch.users = [f"{session}-{one}" for one in of.tolist()]
        batch.domain[:, :2] = homes[of]
        batch.truth = batch.frozen + leanings[of][batch.request]


class Story:
    """The verdicts of a monitor on a simulated stream."""

    def __init__(self, seed: int = 0, reference: bool = True, config: DriftConfig | None = None) -> None:
        self.config = config or DriftConfig()
        self.rng = np.random.default_rng(seed)
        self.reference = self._reference() if reference else None
        self.monitor = DriftMonitor(STRATA, self.reference, self.config)
        self.said: list[Verdict] = []
        self.alarms: list[Alarm] = []
        self.time = 1_000.0

    def _reference(self) -> Reference:
        past = Batch(np.random.default_rng(99), 500)
        return Reference.of(past.x, past.frozen, past.label(), past.domain[past.request], SPACE.sizes)

    def go_on(self, batches: int, change: Change | None = None) -> list[Verdict]:
        """Plays micro-batches; returns the verdicts that changed meanwhile."""
        before = len(self.said)
        for _ in range(batches):
            batch = Batch(self.rng)
            if change is not None:
                change(batch)
            self.tell(batch)
        return self.said[before:]

    def tell(self, batch: Batch) -> None:
        for request in range(len(batch.domain)):
            of = batch.request == request
            scene, region, period = batch.domain[request].tolist()
            self.monitor.served(batch.frozen[of], batch.live[of], batch.x[of], (scene, region, period), self.time)
        self.time += 10.0
        label = batch.label()
        scored = ScoredExamples(
            label, batch.frozen, batch.live, batch.request, batch.users, ["item"] * len(label), batch.domain,
            np.zeros(len(batch.domain), dtype=np.int64),
        )  # fmt: skip
        self.monitor.learned(scored, np.ones(len(label)), batch.live, self.time)
        for one in self.monitor.judge(batch.health, self.time):
            self.said.append(one) if isinstance(one, Verdict) else self.alarms.append(one)

    def restart(self) -> None:
        """Another process goes on from the snapshot."""
        state = self.monitor.state()
        self.monitor = DriftMonitor(STRATA, self.reference, self.config)
        self.monitor.load(state)

    def kind(self, stratum: str = "group") -> VerdictKind:
        return next(one.kind for one in self.monitor.verdicts if one.stratum == stratum)

    def own(self) -> dict[str, VerdictKind]:
        """The last verdict that was said of each stratum."""
        return {one.stratum: one.kind for one in self.said}

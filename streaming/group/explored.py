"""Reads explored requests back from a group's traffic, and what other policies would have put first in them. No broker.

It uses the join of production, so clicks are those that the processor learned from; a click within the label horizon
counts too, and comes as `LateClick`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.control_users import ControlUsers
from model.exploration import by_score
from model.kernel.features import KernelInputs
from model.kernel.kernel import Kernel
from model.off_policy import Explored, TargetPolicy
from streaming.config import JoinConfig
from streaming.events import EXPLORED, ExploredConvertingImpression, ExploredImpression, ServedImpression
from streaming.group.guarded_join import GuardedJoin
from streaming.group.traffic_reader import TrafficReader
from streaming.join.join import Join, LabelledRequest, LateClick

POLICIES = ("logged", "served", "live", "frozen", "uniform")
"""The policies that need no kernel: what was shown, draws included; the same without draws; the order by either arm's
click probability; and a draw with equal chances."""
_Row = tuple[float, float, float, float]
"""The four numbers of `model.off_policy.TargetPolicy` for one request."""
_Explored = ExploredImpression | ExploredConvertingImpression


@dataclass(frozen=True)
class PastPolicy:
    """A published kernel, which may be judged only by requests after the newest one that it learned from."""

    kernel: Kernel
    newest_event_time: float


class ExploredRequests:
    """Collects explored requests as their windows close; `kernels` are further policies, by name."""

    def __init__(
        self, group: str, config: JoinConfig, reader: TrafficReader, kernels: Mapping[str, PastPolicy] | None = None
    ) -> None:
        self._reader, self._kernels = reader, dict(kernels or {})
        self._join = Join(config)
        self._guarded = GuardedJoin(group, self._join, reader)
        self._numbers: dict[int, tuple[int, str]] = {}
        self._outcomes: list[tuple[float, float, int]] = []
        self._rows: dict[str, list[_Row]] = {name: [] for name in (*POLICIES, *self._kernels)}
        self._judged: dict[str, list[bool]] = {name: [] for name in self._kernels}

    @property
    def open(self) -> int:
        """Requests, explored or not, whose window has not closed yet."""
        return len(self._join.open)

    def feed(self, offset: int, value: bytes | None, appended: float) -> None:
        """Takes the record at `offset`; `appended` is when the broker appended it, seconds."""
        record = self._reader.read(offset, value)
        if record is None:
            return
        joined = self._guarded.feed(offset, record, appended)
        if isinstance(joined.late, LateClick):
            number, item = self._numbers.get(joined.late.request.offset, (-1, ""))
            if item == joined.late.item_id:
                self._outcomes[number] = (1.0, *self._outcomes[number][1:])
        for request in joined.closed:
            if isinstance(request.impression, EXPLORED):
                self._add(request, request.impression)

    def logged(self) -> Explored:
        """The outcomes of all requests so far."""
        click, propensity, bucket = np.array(self._outcomes, dtype=np.float64).reshape(-1, 3).T
        return Explored(click, propensity, bucket.astype(np.int64))

    def targets(self) -> Mapping[str, tuple[TargetPolicy, NDArray[np.bool_]]]:
        """What each policy would have done, and a mask of the requests by which it may be judged."""
        every = np.ones(len(self._outcomes), dtype=bool)
        found = {}
        for name, rows in self._rows.items():
            target = TargetPolicy(*np.array(rows, dtype=np.float64).reshape(-1, 4).T)
            found[name] = target, np.array(self._judged[name], dtype=bool) if name in self._judged else every
        return found

    def _add(self, request: LabelledRequest, impression: _Explored) -> None:
        self._numbers[request.offset] = len(self._outcomes), impression.items[0]
        bucket = ControlUsers().draw(impression.user_id).bucket
        chances = _Chances(impression)
        self._outcomes.append((float(request.clicks[0]), float(chances.drawn[0]), bucket))
        self._rows["logged"].append(chances.of_draw(chances.drawn))
        self._rows["served"].append(chances.of_item(chances.order[0]))
        self._rows["live"].append(chances.of_key(impression.array("live_logit")))
        self._rows["frozen"].append(chances.of_key(impression.array("frozen_logit")))
        self._rows["uniform"].append(chances.of_draw(np.full(len(chances.drawn), 1.0 / len(chances.drawn))))
        for name, past in self._kernels.items():
            self._judged[name].append(impression.time > past.newest_event_time)
            self._rows[name].append(chances.of_key(_logit(past.kernel, impression)))


class _Chances:
    """What policies do in one explored request, with the live arm's click probabilities as predictions."""

    def __init__(self, impression: _Explored) -> None:
        # Equal keys must not prefer the item that was drawn, or its weight would depend on the draw.
        self.order = by_score(len(impression.items), impression.place)
        self.drawn = impression.array("propensity").astype(np.float64)
        self._predicted = 1.0 / (1.0 + np.exp(-impression.array("live_logit").astype(np.float64)))

    def of_item(self, chosen: int) -> _Row:
        """A policy that always puts the item at position `chosen` first."""
        predicted = self._predicted
        return float(chosen == 0), float(predicted[0]), float(predicted[chosen]), 1.0 / float(self.drawn[chosen])

    def of_key(self, key: NDArray[np.float32]) -> _Row:
        """A policy that puts the item with the largest of the keys `(n,)` first."""
        return self.of_item(int(self.order[np.argmax(key[self.order])]))

    def of_draw(self, chance: NDArray[np.float64]) -> _Row:
        """A policy that draws the first item with these probabilities, `(n,)`."""
        predicted = self._predicted
        square = float((chance**2 / self.drawn).sum())
        return float(chance[0]), float(predicted[0]), float(chance @ predicted), square


def _logit(kernel: Kernel, impression: ServedImpression) -> NDArray[np.float32]:
    """The kernel's logits of the shown items, `(n,)`, from what the impression logged."""
    # Copies, because PyTorch warns of arrays that cannot be written.
    x, live, frozen = (torch.tensor(impression.array(name)) for name in ("x", "live", "frozen_logit"))
    with torch.inference_mode():
        logit = kernel.logit(KernelInputs(x, live, torch.tensor(impression.array("values")), frozen))
    return np.asarray(logit, dtype=np.float32)

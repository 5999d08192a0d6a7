"""The online experiment of one group: counts what users of both arms did with what was served, learned or not."""

from __future__ import annotations

from collections import Counter

import msgspec

from model.control_users import ControlUsers
from model.uplift import Uplift
from streaming.events import EXPLORED, ServedImpression
from streaming.events.decisions import Decision
from streaming.join.join import LabelledRequest


class Experiment:
    """Counts labelled requests by the arm of their user; `dropped` counts those it could not use."""

    def __init__(self, group: str, control: ControlUsers) -> None:
        self.uplift = Uplift(control)
        self.dropped: Counter[str] = Counter()
        self._group = group
        self._decisions: list[Decision] = []

    def take(self, request: LabelledRequest, watermark: float) -> None:
        """Takes a request whose labels are decided, and the watermark."""
        impression, control = request.impression, self.uplift.control
        if control.share == 0 or not _compares(impression):
            return
        user = control.draw(impression.user_id)
        if user.control and impression.arm == "live":
            self.dropped["other_experiment"] += 1
            return
        clicks, conversions = int(request.clicks.sum()), int(request.conversions.sum())
        look = self.uplift.add(user, shown=len(impression.items), clicks=clicks, conversions=conversions)
        if look is not None:
            detail = msgspec.to_builtins(look) | {"share": control.share}
            self._decisions.append(Decision("uplift", self._group, watermark, "experiment", detail))

    def convert(self, impression: ServedImpression, conversions: int) -> None:
        """Adds conversions that came after the labels of their request were decided and counted."""
        control = self.uplift.control
        if control.share == 0 or not _compares(impression):
            return
        user = control.draw(impression.user_id)
        if not (user.control and impression.arm == "live"):
            self.uplift.convert(user, conversions)

    def take_decisions(self) -> tuple[Decision, ...]:
        """The looks since the last call, as decisions."""
        decisions, self._decisions = tuple(self._decisions), []
        return decisions

    def snapshot(self) -> bytes:
        """The state of the experiment as bytes; empty without control users."""
        return self.uplift.snapshot() if self.uplift.control.share else b""

    def restore(self, data: bytes) -> None:
        """Continues from a snapshot."""
        if data:
            self.uplift.restore(data)


def _compares(impression: ServedImpression) -> bool:
    """Whether it shows what an arm's own order is worth. Explored requests are drawn at random, so that leaving them
    out leaves the comparison of users fair."""
    return impression.arm != "other" and not isinstance(impression, EXPLORED)

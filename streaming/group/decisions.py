"""The decisions about a group's kernels, until they are taken for the next whole cut."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from model.gate.decision import GateDecision
from streaming.events.decisions import Decision

log = logging.getLogger(__name__)
GATE = "gate"
"""Name of the decider in the gate's decisions."""


class GroupDecisions:
    """Collects a group's decisions in the order in which they were made."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._made: list[Decision] = []

    def of_gate(self, decided: Iterable[GateDecision], watermark: float, task: str = "") -> None:
        """Logs and adds what the gate of a task has decided at `watermark`, seconds; clicks are not named."""
        for decision in decided:
            detail = {**decision.detail, "task": task} if task else decision.detail
            log.warning("group %s: %s: %s", self._group, decision.kind, detail)
            self._made.append(Decision(decision.kind, self._group, watermark, GATE, detail))

    def add(self, decisions: Iterable[Decision]) -> None:
        """Adds decisions that their decider has logged."""
        self._made += decisions

    def take(self) -> list[Decision]:
        """The decisions since the last call."""
        made, self._made = self._made, []
        return made

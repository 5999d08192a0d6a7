"""Name and colour of each verdict, the same in reports, dashboards and on the scorer's page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from model.drift.verdict import VerdictKind


@dataclass(frozen=True)
class Appearance:
    """How a verdict is written and drawn."""

    name: str
    """Plain words, lower case."""
    colour: str
    """`#rrggbb`, of filled areas on a light ground or a dark one."""


APPEARANCES: Mapping[VerdictKind, Appearance] = MappingProxyType({
    VerdictKind.TOO_LITTLE: Appearance("too little data", "#d5d9de"),
    VerdictKind.STABLE: Appearance("stable", "#aeb9c4"),
    VerdictKind.HANDLED: Appearance("drifting, handled", "#00876a"),
    VerdictKind.INPUTS: Appearance("input fault", "#7a4b2a"),
    VerdictKind.LABELS: Appearance("labels faulty", "#96730a"),
    VerdictKind.UNHANDLED: Appearance("drifting, not handled", "#c24e00"),
    VerdictKind.BROKEN_BY_US: Appearance("broken by us", "#a3246f"),
})  # fmt: skip
"""In the order of `driftline:verdict_code` of the recording rules: a later one is worse."""

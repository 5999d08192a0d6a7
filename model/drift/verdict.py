"""The monitor's verdict on a stratum, with its evidence in words, and the alarm of a single detector."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class VerdictKind(StrEnum):
    """Kind of verdict on a stratum."""

    STABLE = "stable"
    HANDLED = "drifting_handled"
    UNHANDLED = "drifting_unhandled"
    BROKEN_BY_US = "broken_by_us"
    LABELS = "labels_faulty"
    INPUTS = "input_fault"
    TOO_LITTLE = "too_little_data"


@dataclass(frozen=True)
class Verdict:
    """The monitor's verdict on one stratum."""

    stratum: str
    kind: VerdictKind
    since: float
    """Event time, s."""
    evidence: dict[str, float | str] = field(default_factory=dict)
    """Figures behind the verdict, by name."""
    words: str = ""
    """One plain sentence."""
    advice: str = ""
    """What to do, one sentence."""


@dataclass(frozen=True)
class Alarm:
    """A single detector fired. That is evidence, not yet a verdict."""

    detector: str
    """`psi`, `jensen_shannon`, `ks`, `adwin`, `page_hinkley`, `kswin`, `order`, `gap` .."""
    signal: str
    """What the detector watches: `score`, `projection_1`, `log_loss`, `residual`, `label_delay` .."""
    stratum: str
    time: float
    """Event time, s."""
    value: float
    threshold: float

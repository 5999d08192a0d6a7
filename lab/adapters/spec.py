"""An adapter by name: how it is built, and the rate it was tuned to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lab.adapters.base import Adapter, AdapterContext

Family = Literal["reference", "rival", "kernel", "live", "few", "whole"]


@dataclass(frozen=True)
class AdapterSpec:
    """An adapter that can be built by name."""

    family: Family
    about: str
    rate: float
    """Learning rate (or its counterpart), tuned on streams of another seed: see docs/decisions/0062."""
    build: Callable[[AdapterContext, float], Adapter]
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    """Learning rates that were tried in tuning."""
    part: str = ""
    """The part of the kernel in which it differs from `iak`; empty if it differs in more, or is no kernel."""
    ablation: bool = False
    """Answers what one part of an adapter is worth; an evaluation runs it only if it is asked for."""

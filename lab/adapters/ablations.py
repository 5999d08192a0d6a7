"""Kernels that differ from `iak` in one thing: what is each part of the kernel worth?

An evaluation runs them only if they are asked for (`driftline evaluate --adapters ablations`).
"""

from __future__ import annotations

from functools import partial

from lab.adapters.iak import (
    Iak,
    unlearned,
    without_compression,
    without_counters,
    without_matching,
    without_residual_features,
    without_trust,
)
from lab.adapters.spec import AdapterSpec


def _ablation(part: str, about: str, build: partial[Iak]) -> AdapterSpec:
    return AdapterSpec("kernel", f"IAK {about}", 0.0, build, (), part=part, ablation=True)


ABLATIONS: dict[str, AdapterSpec] = {
    "iak-no-counters": _ablation(
        "counters", "without counters", partial(Iak, start=unlearned, transform=without_counters)
    ),
    "iak-no-start": _ablation("first weights", "that learned nothing from the log", partial(Iak, start=unlearned)),
    "iak-no-live": _ablation("T", "without T", partial(Iak, transform=without_residual_features)),
    "iak-no-compression": _ablation(
        "compression", "with random directions of x", partial(Iak, start=without_compression)
    ),
    "iak-no-matching": _ablation("matching", "without matching", partial(Iak, start=without_matching)),
    "iak-no-trust": _ablation("trust", "with arms at fixed shares", partial(Iak, learner=without_trust)),
}

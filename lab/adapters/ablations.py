"""Kernels that differ from `iak` in one thing: what is each part of the kernel worth?

An evaluation runs them only if they are asked for (`driftline evaluate --adapters ablations`).
"""

from __future__ import annotations

from functools import partial

from lab.adapters.iak import Iak
from lab.adapters.spec import AdapterSpec

RATE = 1e-4


def _kernel(part: str, about: str, **changes: object) -> AdapterSpec:
    return AdapterSpec("kernel", f"IAK {about}", RATE, partial(Iak, kernel=changes), part=part, ablation=True)


def _learner(part: str, about: str, **changes: object) -> AdapterSpec:
    return AdapterSpec("kernel", f"IAK {about}", RATE, partial(Iak, learner=changes), part=part, ablation=True)


ABLATIONS: dict[str, AdapterSpec] = {
    "iak-short-memory": _learner("memory", "with one memory of 2 000 examples", path_half_lives=(2_000.0,)),
    "iak-long-memory": _learner("memory", "with one memory of 20 000 examples", path_half_lives=(20_000.0,)),
    "iak-no-trust": _kernel("trust", "without trust", use_trust=False),
}

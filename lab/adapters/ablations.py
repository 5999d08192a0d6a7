"""Kernels that differ from `iak` in one thing: what is each part of the kernel worth?

An evaluation runs them only if they are asked for (`driftline evaluate --adapters ablations`).
"""

from __future__ import annotations

from functools import partial

from lab.adapters.iak import Iak
from lab.adapters.spec import AdapterSpec

PATH_RATE, NO_PATH_RATE, GRADIENT_RATE = 1e-4, 3e-4, 1e-3
"""Learning rates of the core: beside a path in closed form it has little to learn, without one it has all."""


def _kernel(part: str, about: str, rate: float = PATH_RATE, **changes: object) -> AdapterSpec:
    return AdapterSpec("kernel", f"IAK D {about}", rate, partial(Iak, kernel=changes), part=part, ablation=True)


def _learner(part: str, about: str, **changes: object) -> AdapterSpec:
    return AdapterSpec("kernel", f"IAK D {about}", PATH_RATE, partial(Iak, learner=changes), part=part, ablation=True)


ABLATIONS: dict[str, AdapterSpec] = {
    "iak-no-products": _kernel("linear path", "whose path sees x and T alone", path_products=0),
    "iak-256-products": _kernel("linear path", "whose path sees 256 products", path_products=256),
    "iak-short-memory": _learner("linear path", "with one memory of 2 000 examples", path_half_lives=(2_000.0,)),
    "iak-long-memory": _learner("linear path", "with one memory of 20 000 examples", path_half_lives=(20_000.0,)),
    "iak-no-path": _kernel("linear path", "without a linear path", NO_PATH_RATE, path="none"),
    "iak-gradient": AdapterSpec(
        "kernel",
        "IAK D by gradient alone: path over T, rehearsal, no trust",
        GRADIENT_RATE,
        partial(Iak, rehearse=True, kernel={"path": "gradient", "use_trust": False}),
        part="linear path",
        ablation=True,
    ),
    "iak-no-core": AdapterSpec("kernel", "IAK D whose core does not learn", 1e-12, Iak, (), part="core", ablation=True),
    "iak-no-trust": _kernel("trust", "without trust", use_trust=False),
    "iak-no-live-no-path": _kernel(
        "live features", "without T and without a path", NO_PATH_RATE, use_live=False, path="none"
    ),
    "iak-after": _kernel("plug point", "after the trunk", plug="after"),
    "iak-before-and-after": _kernel("plug point", "before and after the trunk", plug="both"),
    "iak-after-no-live-no-path": _kernel(
        "plug point", "after the trunk, without T and path", NO_PATH_RATE, plug="after", use_live=False, path="none"
    ),
    "iak-per-period": _kernel("sharing", "with one kernel per period", sharing="per_domain"),
    "iak-shared-and-per-period": _kernel("sharing", "with a shared kernel and one per period", sharing="both"),
    "iak-rehearsed": AdapterSpec(
        "kernel",
        "IAK D with the others' rehearsal",
        PATH_RATE,
        partial(Iak, rehearse=True),
        part="rehearsal",
        ablation=True,
    ),
    "iak-rehearsed-per-domain": _learner(
        "rehearsal", "with three rehearsal steps, equal per domain", rehearsal_steps=3, rehearsal_plan="per_domain"
    ),
    "iak-evidence-50": _kernel("evidence", "that waits for 50 examples of a domain", min_evidence=50),
    "iak-evidence-50-nearest": _kernel(
        "evidence",
        "that waits for 50 examples, then starts from the nearest domain",
        min_evidence=50,
        new_domain_init="nearest",
    ),
}

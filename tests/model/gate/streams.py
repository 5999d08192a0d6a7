"""Made-up micro-batches whose truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from model.gate.scored_examples import ScoredExamples, Strata

FACETS = {"scene": ("unknown", "home", "search"), "region": ("unknown",), "period": ("unknown",)}
STRATA = Strata(FACETS)
ITEMS = 10


def micro_batch(
    random: np.random.Generator,
    *,
    requests: int = 13,
    users: int = 200,
    rate: float = 0.2,
    scene: int = 1,
    live: float = 0.0,
    user: str = "",
) -> ScoredExamples:
    """Requests of many users, labels drawn by the frozen model; the live arm is off by `live` logits."""
    n = requests * ITEMS
    frozen = np.log(rate / (1 - rate)) - 0.4 + random.normal(size=n)
    label = (random.random(n) < 1 / (1 + np.exp(-frozen))).astype(np.float64)
    return ScoredExamples(
        label=label,
        frozen=frozen,
        live=frozen + live,
        request=np.repeat(np.arange(requests), ITEMS),
        user=[user or f"u{random.integers(users)}" for _ in range(requests)],
        item=[f"i{random.integers(500)}" for _ in range(n)],
        domain=np.tile([scene, 0, 0], (requests, 1)),
        version=np.zeros(requests, dtype=np.int64),
    )


def both(one: ScoredExamples, other: ScoredExamples) -> ScoredExamples:
    """The requests of two micro-batches, one after the other."""
    joined = {
        name: np.concatenate([getattr(one, name), getattr(other, name)])
        for name in ("label", "frozen", "live", "domain", "version")
    }
    request = np.concatenate([one.request, other.request + one.requests])
    return ScoredExamples(user=[*one.user, *other.user], item=[*one.item, *other.item], request=request, **joined)


def single_requests(scored: ScoredExamples) -> Iterator[ScoredExamples]:
    """A micro-batch request by request."""
    for one, other in pairwise(range(scored.requests + 1)):
        yield scored.select((np.arange(scored.requests) >= one) & (np.arange(scored.requests) < other))

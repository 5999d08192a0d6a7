"""Small streams of outcomes for the tests of the live features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from features.config import LiveConfig
from features.live.features import LiveFeatures, LiveLayout, LiveRow, RequestOutcome, assemble, item_domain_key
from features.live.layout import OVERALL, Floats
from model.encoding.domain import Domain

quick = settings(max_examples=30)
WIDTH = 3
DOMAINS = (Domain("home", "zip1", "night"), Domain("home", "zip2", "night"))
_GRID = np.random.default_rng(0).normal(size=(6, WIDTH)).astype(np.float32)
CONTENT = {f"i{index}": vector for index, vector in enumerate(_GRID)}


def config(**changes: object) -> LiveConfig:
    return LiveConfig.model_validate({"half_lives_s": (10.0, 100.0), "per_domain_items": True, **changes})


def fresh(settings: LiveConfig | None = None) -> LiveFeatures:
    settings = settings or config()
    return LiveFeatures(LiveLayout.of(settings, WIDTH), settings)


def content_of(items: Sequence[str]) -> Floats:
    return np.stack([CONTENT[item] for item in items]) if items else np.zeros((0, WIDTH), dtype=np.float32)


def outcome(user: str, items: Sequence[str], residual: Sequence[float], time: float, domain: int = 0) -> RequestOutcome:
    errors = np.array(residual, dtype=np.float32)
    return RequestOutcome(user, DOMAINS[domain], list(items), content_of(items), errors, time)


@st.composite
def outcomes(draw: st.DrawFn) -> RequestOutcome:
    items = draw(st.lists(st.sampled_from(sorted(CONTENT)), min_size=1, max_size=4))
    residual = draw(st.lists(st.floats(-1, 1, width=32), min_size=len(items), max_size=len(items)))
    time = draw(st.floats(0, 200))
    return outcome(draw(st.sampled_from("uvw")), items, residual, time, draw(st.sampled_from((0, 1))))


streams = st.lists(outcomes(), min_size=1, max_size=12)


def read(live: LiveFeatures, time: float = 250.0, user: str = "u", domain: int = 0) -> Floats:
    items = sorted(CONTENT)
    return live.features(time, user, DOMAINS[domain], items, content_of(items))


def through_rows(live: LiveFeatures, rows: Sequence[LiveRow], time: float, user: str, domain: int = 0) -> Floats:
    """T as a scorer makes it, from rows by key."""
    by_key = {(row.kind, row.key): row for row in rows}
    items = sorted(CONTENT)
    where = DOMAINS[domain]
    return assemble(
        live.layout,
        time,
        content_of(items),
        user=by_key.get(("user", user)),
        domain=by_key.get(("domain", where.key)),
        overall=by_key.get(("domain", OVERALL)),
        items=[by_key.get(("item", item)) for item in items],
        item_domains=[by_key.get(("item_domain", item_domain_key(item, where))) for item in items],
    )

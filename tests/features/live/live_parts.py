"""Small streams of outcomes for the tests of the live features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from features.config import LiveConfig
from features.live.features import LiveFeatures, LiveLayout, LiveRow, RequestItems, assemble
from features.live.layout import OVERALL, Crossing, Floats
from features.live.outcome import RequestOutcome
from model.config import HistorySpec
from model.encoding.domain import Domain
from model.encoding.item_values import Slots

quick = settings(max_examples=30)
WIDTH = 3
DOMAINS = (Domain("home", "zip1", "night"), Domain("home", "zip2", "night"), Domain("home", "elsewhere", "day"))
"""The region of the third is not declared."""
CROSSING = Crossing(
    values=7,
    fields=("year", "genres"),
    field_of_slot=(0, 1, 1, 1),
    facets=(("region", ("unknown", "zip1", "zip2")), ("period", ("unknown", "day", "night"))),
)
"""A single field of three values and a multi-valued one of four; the scene does not vary."""
_GRID = np.random.default_rng(0).normal(size=(6, WIDTH)).astype(np.float32)
CONTENT = {f"i{index}": vector for index, vector in enumerate(_GRID)}
_SLOTS = ((0, 3, -1, -1), (1, 3, 4, -1), (2, 4, 5, 6), (0, -1, -1, -1), (1, 6, -1, -1), (-1, 3, 5, -1))
SLOTS = {f"i{index}": np.array(slots, dtype=np.int16) for index, slots in enumerate(_SLOTS)}


def config(**changes: object) -> LiveConfig:
    return LiveConfig.model_validate({"half_lives_s": (10.0, 100.0), **changes})


HISTORY = HistorySpec(4, skips=True)
"""So short that events of the first requests are cut off."""


def layout_of(
    settings: LiveConfig | None = None, crossing: Crossing = CROSSING, history: HistorySpec = HISTORY
) -> LiveLayout:
    return LiveLayout.of(settings or config(), WIDTH, crossing, history)


def fresh(
    settings: LiveConfig | None = None, crossing: Crossing = CROSSING, history: HistorySpec = HISTORY
) -> LiveFeatures:
    settings = settings or config()
    return LiveFeatures(layout_of(settings, crossing, history), settings)


def sums(live: LiveFeatures) -> list[LiveRow]:
    """All rows but the histories."""
    return [row for row in live.rows() if row.kind != "history"]


def content_of(items: Sequence[str]) -> Floats:
    return np.stack([CONTENT[item] for item in items]) if items else np.zeros((0, WIDTH), dtype=np.float32)


def values_of(items: Sequence[str]) -> Slots:
    return np.stack([SLOTS[item] for item in items]) if items else np.zeros((0, 4), dtype=np.int16)


def outcome(user: str, items: Sequence[str], residual: Sequence[float], time: float, domain: int = 0) -> RequestOutcome:
    """An item is clicked if its residual is above zero."""
    errors = np.array(residual, dtype=np.float32)
    click = (errors > 0).astype(np.float32)
    return RequestOutcome(user, DOMAINS[domain], list(items), content_of(items), values_of(items), click, errors, time)


@st.composite
def outcomes(draw: st.DrawFn) -> RequestOutcome:
    items = draw(st.lists(st.sampled_from(sorted(CONTENT)), min_size=1, max_size=4))
    residual = draw(st.lists(st.floats(-1, 1, width=32), min_size=len(items), max_size=len(items)))
    time = draw(st.floats(0, 200))
    return outcome(draw(st.sampled_from("uvw")), items, residual, time, draw(st.sampled_from((0, 1, 2))))


streams = st.lists(outcomes(), min_size=1, max_size=12)


def asked(items: Sequence[str], domain: int = 0) -> RequestItems:
    return RequestItems(DOMAINS[domain], content_of(items), values_of(items))


def read(live: LiveFeatures, time: float = 250.0, user: str = "u", domain: int = 0) -> Floats:
    items = sorted(CONTENT)
    return live.features(time, user, asked(items, domain), items)


def through_rows(live: LiveFeatures, rows: Sequence[LiveRow], time: float, user: str, domain: int = 0) -> Floats:
    """The live features as a scorer makes them, from rows by key."""
    by_key = {(row.kind, row.key): row for row in rows}
    items = sorted(CONTENT)
    where = DOMAINS[domain]
    return assemble(
        live.layout,
        time,
        asked(items, domain),
        user=by_key.get(("user", user)),
        domain=by_key.get(("domain", where.key)),
        overall=by_key.get(("domain", OVERALL)),
        facets=[by_key.get(("facet", key)) for key in live.layout.crossing.facet_keys(where)],
        items=[by_key.get(("item", item)) for item in items],
    )

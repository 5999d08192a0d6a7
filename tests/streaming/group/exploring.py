"""Traffic whose first places were drawn, as a scorer that explores logs it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.exploration import Exploration, shown_order
from streaming.events import ServedImpression, Traffic
from streaming.events.traffic import PAYLOADS, ExploredImpression, Payload

ALWAYS = Exploration(1.0, 1.0)


def explored(record: ServedImpression, rule: Exploration = ALWAYS) -> ServedImpression:
    """The impression as `rule` would have had it shown and logged; the record itself if it does not explore."""
    key = record.array("live_logit")
    best = np.argsort(-key, kind="stable")
    sampled = rule.sample(record.request_id, key[best])
    return record if sampled is None else drawn(record, best, sampled.place, sampled.chances)


def drawn(record: ServedImpression, best: np.ndarray, place: int, chances: np.ndarray) -> ExploredImpression:
    """The impression with the item at `place` of `best` drawn; `chances` belong to `best`, indices of its items."""
    order = shown_order(best, place)
    parts = {name: reordered(record, name, order) for name in PAYLOADS}
    fields = msgspec.structs.asdict(record) | parts | {"items": [record.items[index] for index in order]}
    return ExploredImpression(**fields, propensity=shown_order(chances, place).astype("<f4").tobytes(), place=place)


def reordered(record: ServedImpression, name: Payload, order: np.ndarray) -> bytes:
    """A payload with its rows in another order."""
    rows: NDArray[np.uint8] = np.frombuffer(getattr(record, name), dtype=np.uint8).reshape(len(record.items), -1)
    moved: bytes = rows[order].tobytes()
    return moved


def exploring(records: Sequence[Traffic], rule: Exploration = ALWAYS) -> list[Traffic]:
    """The records with their impressions explored by `rule`."""
    return [explored(record, rule) if isinstance(record, ServedImpression) else record for record in records]

"""Live drift features T: what the frozen model has lately been wrong about, per item, user and domain.

A *residual* is `label - sigmoid(frozen logit)`. Per key, and at a short and a long half-life, decayed sums are kept of
examples, of residuals and (users and domains) of residual-weighted content vectors; per user also the second moment
of the content vectors, from which a Bayesian ridge regression of the residuals is read. The design is ours; the ridge
is the textbook posterior (Bishop, Pattern Recognition and Machine Learning, 3.3) with forgetting.

Sums are decayed to the newest event time that touched the row, so the order in which events arrive does not matter (but
for rounding), and decayed again to the time of the request when they are read. No clock, no broker, no global.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from features.config import LiveConfig
from features.live_layout import (
    KEY_SEPARATOR,
    OVERALL,
    Floats,
    Kind,
    LiveLayout,
    LiveRow,
    unit_content,
)
from features.live_read import assemble, compute
from features.live_table import LiveTable
from model.domain import Domain

__all__ = ["LiveFeatures", "LiveLayout", "LiveRow", "RequestOutcome", "assemble", "item_domain_key"]


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """One request whose `n` labels are decided."""

    user_id: str
    domain: Domain
    items: Sequence[str]
    content: Floats
    """Content vectors of the items as they were served, `(n, c)`."""
    residual: Floats
    """Label minus the frozen model's probability, `(n,)`."""
    time: float
    """Event time of the request, seconds."""


def item_domain_key(item_id: str, domain: Domain) -> str:
    """Key of an item within a domain."""
    return f"{domain.key}{KEY_SEPARATOR}{item_id}"


class LiveFeatures:
    """All rows of one kernel group. Not thread-safe: one writer per group, as everywhere in Driftline."""

    def __init__(self, layout: LiveLayout, config: LiveConfig) -> None:
        self.layout = layout
        limits: dict[Kind, int] = {
            "user": config.max_users,
            "item": config.max_items,
            "domain": config.max_domains,
            "item_domain": config.max_item_domains,
        }
        self._tables = {
            kind: LiveTable(kind, layout.width_of(kind), layout.decay_columns(kind), config.half_lives_s, limits[kind])
            for kind in layout.kinds
        }

    def __len__(self) -> int:
        return sum(len(table) for table in self._tables.values())

    @property
    def evicted(self) -> dict[Kind, int]:
        """Rows dropped so far to keep within the configured bounds, by kind."""
        return {kind: table.evicted for kind, table in self._tables.items()}

    def update(self, outcomes: Sequence[RequestOutcome]) -> None:
        """Adds decided requests. Event times may come in any order.

        Raises ValueError naming user and field for a wrong shape or a value that is not finite; then nothing is added.
        """
        filled = [outcome for outcome in outcomes if len(outcome.items)]
        if not filled:
            return
        for outcome in filled:
            self._check(outcome)
        sizes = [len(outcome.items) for outcome in filled]
        time = np.repeat(np.array([outcome.time for outcome in filled], dtype=np.float64), sizes)
        residual = np.concatenate([outcome.residual for outcome in filled])
        unit = unit_content(np.concatenate([outcome.content for outcome in filled]))
        for kind, keys in self._keys(filled, sizes).items():
            self._tables[kind].add(keys, time, self.layout.contributions(kind, residual, unit))
        signed = self.layout.contributions("domain", residual, unit)
        self._tables["domain"].add([OVERALL] * len(residual), time, signed)

    def features(self, time: float, user_id: str, domain: Domain, items: Sequence[str], content: Floats) -> Floats:
        """T of one request, `(n, k)`: bit for bit what `assemble` gives on the same rows out of the feature store."""
        pairs = self._tables.get("item_domain")
        return compute(
            self.layout,
            time,
            content,
            user=self._tables["user"].read([user_id]),
            domain=self._tables["domain"].read([domain.key]),
            overall=self._tables["domain"].read([OVERALL]),
            item=self._tables["item"].read(items),
            item_domain=pairs.read([item_domain_key(item, domain) for item in items]) if pairs is not None else None,
        )

    def take_changed(self) -> list[LiveRow]:
        """Rows touched since the last call (copies), and tombstones for what was evicted meanwhile."""
        return [row for table in self._tables.values() for row in table.take_changed()]

    def rows(self) -> list[LiveRow]:
        """Every row (copies): what `restore` needs to make the same state again."""
        return [row for table in self._tables.values() for row in table.rows()]

    def restore(self, rows: Iterable[LiveRow]) -> None:
        """Takes rows as they were written, bit for bit; they do not count as changed.

        Raises ValueError for a kind or a width that this layout does not have.
        """
        for row in rows:
            table = self._tables.get(row.kind)
            if table is None:
                raise ValueError(
                    f"live row {row.key!r} is of kind {row.kind!r}; this configuration keeps {', '.join(self._tables)}"
                )
            table.put(row)

    def _check(self, outcome: RequestOutcome) -> None:
        n = len(outcome.items)
        shapes = {"content": (outcome.content, (n, self.layout.content_width)), "residual": (outcome.residual, (n,))}
        for name, (array, shape) in shapes.items():
            if array.shape != shape:
                raise ValueError(f"outcome of user {outcome.user_id!r}: {name} has shape {array.shape}, not {shape}")
            if not np.isfinite(array).all():
                raise ValueError(f"outcome of user {outcome.user_id!r}: {name} holds a value that is not finite")
        if not math.isfinite(outcome.time):
            raise ValueError(f"outcome of user {outcome.user_id!r}: time is {outcome.time}")

    def _keys(self, outcomes: Sequence[RequestOutcome], sizes: Sequence[int]) -> dict[Kind, list[str]]:
        """The key that each example counts for, by kind."""
        keys: dict[Kind, list[str]] = {
            "user": [o.user_id for o, size in zip(outcomes, sizes, strict=True) for _ in range(size)],
            "item": [item for o in outcomes for item in o.items],
            "domain": [o.domain.key for o, size in zip(outcomes, sizes, strict=True) for _ in range(size)],
        }
        if "item_domain" in self._tables:
            keys["item_domain"] = [item_domain_key(item, o.domain) for o in outcomes for item in o.items]
        return keys

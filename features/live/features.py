"""Live drift features T: what the frozen model has lately been wrong about, per item, user and domain.

A *residual* is `label - sigmoid(frozen logit)`. Per key, and at a short and a long half-life, decayed sums are kept of
examples, of residuals and (users and domains) of residual-weighted content vectors; per user also the second moment
of the content vectors, from which a Bayesian ridge regression of the residuals is read. The design is ours; the ridge
is the textbook posterior (Bishop, Pattern Recognition and Machine Learning, 3.3) with forgetting.

Sums are decayed to the newest event time that touched the row, so the order in which events arrive does not matter (but
for rounding), and decayed again to the time of the request when they are read. No clock, no broker, no global.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from features.config import LiveConfig
from features.live.layout import (
    KEY_SEPARATOR,
    OVERALL,
    Doubles,
    Floats,
    Kind,
    LiveLayout,
    LiveRow,
)
from features.live.read import assemble, compute
from features.live.table import LiveTable
from model.encoding.domain import Domain

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
        sizes = [len(outcome.items) for outcome in filled]
        time, residual, content = self._stack(filled)
        single = self.layout.contributions(residual, content)
        # all examples of a request happen at one moment, to one user, in one domain: their sum is added at once
        whole = np.add.reduceat(single, np.cumsum([0, *sizes[:-1]]), axis=0)
        domains = [outcome.domain.key for outcome in filled]
        self._add("user", [outcome.user_id for outcome in filled], time, whole)
        both = np.concatenate([time, time]), np.concatenate([whole, whole])
        self._add("domain", [*domains, *[OVERALL] * len(filled)], *both)
        times = np.repeat(time, sizes)
        self._add("item", [item for outcome in filled for item in outcome.items], times, single)
        if self.layout.per_domain_items:
            pairs = [item_domain_key(item, outcome.domain) for outcome in filled for item in outcome.items]
            self._add("item_domain", pairs, times, single)

    def _add(self, kind: Kind, keys: Sequence[str], time: Doubles, added: Doubles) -> None:
        self._tables[kind].add(keys, time, added[:, : self.layout.width_of(kind)])

    def features(self, time: float, user_id: str, domain: Domain, items: Sequence[str], content: Floats) -> Floats:
        """T of one request at event time `time`, float32 `(n, k)`.

        Bit for bit what `assemble` gives on the same rows out of the feature store.
        """
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

    def _stack(self, outcomes: Sequence[RequestOutcome]) -> tuple[Doubles, Floats, Floats]:
        """Times `(r,)` of the requests, residuals `(n,)` and content `(n, c)` of all their items, checked."""
        for outcome in outcomes:
            n, width = len(outcome.items), self.layout.content_width
            for name, array, shape in (("residual", outcome.residual, (n,)), ("content", outcome.content, (n, width))):
                if array.shape != shape:
                    raise ValueError(
                        f"outcome of user {outcome.user_id!r}: {name} has shape {array.shape}, not {shape}"
                    )
        time = np.array([outcome.time for outcome in outcomes], dtype=np.float64)
        residual = np.concatenate([outcome.residual for outcome in outcomes])
        content = np.concatenate([outcome.content for outcome in outcomes])
        if not (np.isfinite(time).all() and np.isfinite(residual).all() and np.isfinite(content).all()):
            raise ValueError(_not_finite(outcomes))
        return time, residual, content


def _not_finite(outcomes: Sequence[RequestOutcome]) -> str:
    for outcome in outcomes:
        for name in ("time", "residual", "content"):
            if not np.isfinite(getattr(outcome, name)).all():
                return f"outcome of user {outcome.user_id!r}: {name} holds a value that is not finite"
    return "no outcome holds a value that is not finite"

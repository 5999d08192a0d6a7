"""Live features: recent residuals of the frozen model (T), and counts of shown and clicked items (counters).

A *residual* is `label - sigmoid(frozen logit)`. Each key has decayed sums, at a short and a long half-life, of
examples, of residuals and (users and domains) of residual-weighted content vectors. A user also has the second moment
of the content vectors, from which a Bayesian ridge regression of the residuals is computed. The design is ours; the
ridge regression is the textbook posterior (Bishop, Pattern Recognition and Machine Learning, 3.3) with forgetting.
Counters never decay: they count shown and clicked examples, for a user and a facet also by item value (`counters`).

Sums are decayed to the newest event time of the row, so the order of arrival does not matter (but for rounding), and
decayed again to the time of the request when they are read. There is no clock, broker or global.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from features.config import LiveConfig
from features.live.history import HISTORY, HistoryTable
from features.live.layout import OVERALL, Doubles, Floats, Kind, LiveLayout, LiveRow
from features.live.outcome import RequestOutcome
from features.live.read import RequestItems, assemble, compute
from features.live.table import LiveTable
from model.encoding.item_values import Slots
from model.encoding.profile import HistoryEvent

__all__ = ["LiveFeatures", "LiveLayout", "LiveRow", "RequestItems", "assemble"]


class LiveFeatures:
    """All live rows of one kernel group. Not thread-safe: a group has one writer."""

    def __init__(self, layout: LiveLayout, config: LiveConfig) -> None:
        self.layout = layout
        limits: dict[Kind, int] = {
            "user": config.max_users,
            "item": config.max_items,
            "domain": config.max_domains,
            "facet": config.max_domains,
        }
        self._tables = {kind: LiveTable(kind, layout, limit) for kind, limit in limits.items()}
        self._histories = HistoryTable(layout.history, config.max_users)

    def __len__(self) -> int:
        return sum(len(table) for table in self._all)

    @property
    def _all(self) -> list[LiveTable | HistoryTable]:
        """All tables; the histories are empty if the backbone reads none."""
        return [*self._tables.values(), self._histories]

    @property
    def evicted(self) -> dict[Kind, int]:
        """Number of rows dropped so far to keep within the configured bounds, by kind."""
        return {**{kind: table.evicted for kind, table in self._tables.items()}, HISTORY: self._histories.evicted}

    def update(self, outcomes: Sequence[RequestOutcome], *, counters_only: bool = False) -> None:
        """Adds decided requests. Event times may come in any order.

        With `counters_only`, for the pretraining log, T is not changed: the frozen model was trained on these labels,
        so its residuals on them carry no information. Raises ValueError, naming user and field, for a wrong shape or a
        value that is not finite; then nothing is added.
        """
        filled = [outcome for outcome in outcomes if len(outcome.items)]
        if not filled:
            return
        batch = _Batch.of(filled, self.layout)
        residuals = self.layout.residual_sums(batch.residual, batch.content)
        if counters_only:
            residuals[:] = 0.0
        self._spread(filled, batch, residuals, late=False)
        if self.layout.history.length:
            self._histories.add(filled)

    def correct(self, outcomes: Sequence[RequestOutcome]) -> None:
        """Adds clicks that came after their requests were added by `update`, at the times of the requests.

        `click` is 1 for the items whose label turned, and `residual` is the change of their residuals, also 1. Up to
        rounding, the rows are then those of a stream with all clicks on time (docs/decisions/0095). A row that was
        evicted meanwhile is not made again. Raises ValueError as `update` does; then nothing is added.
        """
        filled = [outcome for outcome in outcomes if len(outcome.items)]
        if not filled:
            return
        batch = _Batch.of(filled, self.layout)
        residuals = self.layout.residual_sums(batch.residual, batch.content) * self.layout.labelled_columns
        self._spread(filled, batch, residuals, late=True)
        self._histories.correct(filled)

    def _spread(self, filled: Sequence[RequestOutcome], batch: _Batch, residuals: Doubles, *, late: bool) -> None:
        """Adds residual sums `(n, residuals_of("user"))` and counters to all rows; a late click adds nothing shown."""
        part, first = _shown(batch, self.layout), 0.0 if late else 1.0
        # The examples of a request share time, user and domain, so their sum is added in one step.
        starts = np.cumsum([0, *batch.sizes[:-1]])
        whole = np.add.reduceat(residuals, starts, axis=0)
        counted = np.add.reduceat(np.stack([first * part, part * batch.click[:, None]], axis=1), starts, axis=0)
        single = np.stack([np.full_like(batch.click, first), batch.click], axis=1)[:, :, None]
        domains = [outcome.domain.key for outcome in filled]
        self._add("user", [outcome.user_id for outcome in filled], batch.time, whole, counted, late=late)
        both = tuple(np.concatenate([part, part]) for part in (batch.time, whole, counted))
        self._add("domain", [*domains, *[OVERALL] * len(filled)], *both, late=late)
        items = [item for outcome in filled for item in outcome.items]
        self._add("item", items, np.repeat(batch.time, batch.sizes), residuals, single, late=late)
        for facet in range(len(self.layout.crossing.facets)):
            keys = [self.layout.crossing.facet_keys(outcome.domain)[facet] for outcome in filled]
            self._add("facet", keys, batch.time, whole, counted, late=late)

    def _add(
        self, kind: Kind, keys: Sequence[str], time: Doubles, residuals: Doubles, counted: Doubles, *, late: bool
    ) -> None:
        """Adds residual sums `(m, ..)` and counters `(m, 2, ..)`, cut to the columns that rows of `kind` have."""
        layout, table = self.layout, self._tables[kind]
        counters = counted[:, :, : layout.counters_of(kind)].reshape(len(keys), -1)
        added = np.concatenate([residuals[:, : layout.residuals_of(kind)], counters], axis=1)
        (table.correct if late else table.add)(keys, time, added)

    def features(self, time: float, user_id: str, request: RequestItems, items: Sequence[str]) -> Floats:
        """The live features of one request at event time `time`, float32 `(n, k)`.

        Equal, bit for bit, to `assemble` on the same rows read from the feature store.
        """
        return compute(
            self.layout,
            time,
            request,
            user=self._tables["user"].read([user_id]),
            domain=self._tables["domain"].read([request.domain.key]),
            overall=self._tables["domain"].read([OVERALL]),
            facets=self._tables["facet"].read(self.layout.crossing.facet_keys(request.domain)),
            item=self._tables["item"].read(items),
        )

    def history(self, user_id: str) -> list[HistoryEvent]:
        """A user's recent events, oldest first; equal to `read_history` on the same row."""
        return self._histories.events(user_id)

    def take_changed(self) -> list[LiveRow]:
        """Copies of the rows changed since the last call, and tombstones for those evicted since."""
        return [row for table in self._all for row in table.take_changed()]

    def rows(self) -> list[LiveRow]:
        """Copies of all rows, from which `restore` makes the same state again."""
        return [row for table in self._all for row in table.rows()]

    def restore(self, rows: Iterable[LiveRow]) -> None:
        """Takes rows as they were written, bit for bit, without marking them as changed.

        Raises ValueError for a kind or a width that this layout does not have.
        """
        tables: dict[Kind, LiveTable | HistoryTable] = {**self._tables}
        if self.layout.history.length:
            tables[HISTORY] = self._histories
        for row in rows:
            table = tables.get(row.kind)
            if table is None:
                raise ValueError(
                    f"live row {row.key!r} is of kind {row.kind!r}; this configuration keeps {', '.join(tables)}"
                )
            table.put(row)


@dataclass(frozen=True)
class _Batch:
    """Checked outcomes of `r` requests with `n` items in all, joined into arrays."""

    sizes: list[int]
    time: Doubles
    """`(r,)`."""
    residual: Floats
    """`(n,)`."""
    click: Floats
    """`(n,)`."""
    content: Floats
    """`(n, c)`."""
    values: Slots
    """`(n, S)`."""
    facet_columns: list[list[int]]
    """Facet columns of each request."""

    @staticmethod
    def of(outcomes: Sequence[RequestOutcome], layout: LiveLayout) -> _Batch:
        """Raises ValueError, naming user and field, for a wrong shape or a value that is not finite or unknown."""
        _check_shapes(outcomes, layout)
        batch = _Batch(
            sizes=[len(outcome.items) for outcome in outcomes],
            time=np.array([outcome.time for outcome in outcomes], dtype=np.float64),
            residual=np.concatenate([outcome.residual for outcome in outcomes]),
            click=np.concatenate([outcome.click for outcome in outcomes]),
            content=np.concatenate([outcome.content for outcome in outcomes]),
            values=np.concatenate([outcome.values for outcome in outcomes]),
            facet_columns=[layout.crossing.facet_columns(outcome.domain) for outcome in outcomes],
        )
        numbers = (batch.time, batch.residual, batch.click, batch.content)
        if not all(np.isfinite(values).all() for values in numbers):
            raise ValueError(_not_finite(outcomes))
        if batch.click.min() < 0 or batch.click.max() > 1:
            user = next(o.user_id for o in outcomes if o.click.min() < 0 or o.click.max() > 1)
            raise ValueError(f"outcome of user {user!r}: click has a value outside 0 to 1")
        return batch


def _check_shapes(outcomes: Sequence[RequestOutcome], layout: LiveLayout) -> None:
    """Raises ValueError, naming the user, for arrays of wrong shape or item values outside the vocabulary."""
    content, slots = layout.content_width, layout.crossing.slots
    for outcome in outcomes:
        n = len(outcome.items)
        shapes = (n,), (n,), (n, content), (n, slots)
        arrays: tuple[Floats | Slots, ...] = (outcome.residual, outcome.click, outcome.content, outcome.values)
        if tuple(array.shape for array in arrays) != shapes:
            raise ValueError(_misshapen(outcome.user_id, arrays, shapes))
        if outcome.values.size and not -1 <= outcome.values.min() <= outcome.values.max() < layout.crossing.values:
            raise ValueError(
                f"outcome of user {outcome.user_id!r}: values has a number outside 0 to {layout.crossing.values - 1}"
            )


def _misshapen(user_id: str, arrays: Sequence[Floats | Slots], shapes: Sequence[tuple[int, ...]]) -> str:
    names = "residual", "click", "content", "values"
    name, array, shape = next(each for each in zip(names, arrays, shapes, strict=True) if each[1].shape != each[2])
    return f"outcome of user {user_id!r}: {name} has shape {array.shape}, not {shape}"


def _shown(batch: _Batch, layout: LiveLayout) -> Doubles:
    """Mask of the counters that each example adds to: total, its item's values, its facets' values,
    `(n, counters_of("user"))`."""
    crossing = layout.crossing
    shown = np.zeros((len(batch.click), 2 + crossing.values + crossing.facet_values))
    shown[:, 0] = 1.0
    # An empty slot, -1, is mapped to an extra last column that is cut off.
    values = np.where(batch.values < 0, shown.shape[1] - 1, batch.values + 1).astype(np.intp)
    np.put_along_axis(shown, values, 1.0, axis=1)
    facets = np.array(batch.facet_columns, dtype=np.intp).reshape(len(batch.sizes), -1) + 1 + crossing.values
    np.put_along_axis(shown, np.repeat(facets, batch.sizes, axis=0), 1.0, axis=1)
    return shown[:, :-1]


def _not_finite(outcomes: Sequence[RequestOutcome]) -> str:
    for outcome in outcomes:
        for name in ("time", "residual", "click", "content"):
            if not np.isfinite(getattr(outcome, name)).all():
                return f"outcome of user {outcome.user_id!r}: {name} holds a value that is not finite"
    return "no outcome holds a value that is not finite"

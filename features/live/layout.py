"""The columns of a live row, and the names of the live features.

A row holds decayed sums of residuals (for T) followed by counters: how often each crossed value was shown, then how
often it was clicked (docs/decisions/0020, 0080).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

from features.config import LiveConfig
from model.config import NO_HISTORY, HistorySpec
from model.encoding.domain import FACETS, UNKNOWN, Domain, DomainSpace

if TYPE_CHECKING:
    from model.encoding.item_values import ItemValues

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Kind = Literal["user", "item", "domain", "facet", "history", "cvr_user", "cvr_item", "cvr_domain", "cvr_facet"]
"""The last four are rows of conversions, where they are stored beside those of clicks (`features.live.tasks`)."""

KINDS: tuple[Kind, ...] = ("user", "item", "domain", "facet")
"""Kinds whose rows are sums; a `history` is a list of events (`features.live.history`)."""
OVERALL = "*"
"""Key of the `domain` row that sums over all domains; keys of single domains contain slashes."""
KEY_SEPARATOR = "\x1f"
"""ASCII unit separator, between the scope and the key of a stored row."""
SHORT, LONG, NEVER = 0, 1, 2
HALF_LIVES = ("short", "long")
_SUMS = 4  # examples and residuals, each at both half-lives
_INTERCEPT = 0.5
"""Constant beside a content vector of length 1, so that the ridge regression separates a user's mean from a user's
taste (docs/decisions/0020)."""


@dataclass(frozen=True, slots=True)
class LiveRow:
    """The live row of one key. A row with no `values` is a tombstone: the key was evicted."""

    kind: Kind
    key: str
    updated_at: float
    """Event time in seconds to which the sums are decayed; for a history, that of the newest event."""
    values: Floats
    """The sums, float32 `(layout.width_of(kind),)`; for a history, its events as `features.live.history` packs them."""
    items: tuple[str, ...] = ()
    """Items of a history, oldest first."""

    @property
    def tombstone(self) -> bool:
        """Whether the row records that its key was evicted."""
        return self.values.size == 0


@dataclass(frozen=True, slots=True)
class Rows:
    """Live rows of one kind as arrays; missing rows are zeros. `m` is the number of keys, or 1 for all items."""

    values: Floats
    """`(m, width)`."""
    updated_at: Doubles
    """`(m,)`."""


@dataclass(frozen=True)
class Crossing:
    """The values that counters are kept for by user and by facet: values of item fields, and values of facets."""

    values: int
    """Number V of item values (`model.encoding.item_values`)."""
    fields: tuple[str, ...]
    """Names of the K crossed fields."""
    field_of_slot: tuple[int, ...]
    """Index in `fields` of each of an item's S slots."""
    facets: tuple[tuple[str, tuple[str, ...]], ...]
    """Name and values of each facet with more than one declared value."""

    @staticmethod
    def of(values: ItemValues, space: DomainSpace) -> Crossing:
        """The crossing of all crossed item fields and of the facets that vary."""
        # The first value is `unknown`: a facet with one declared value is the same in every request.
        facets = tuple((facet, space.values[facet]) for facet in FACETS if len(space.values[facet]) > 2)
        return Crossing(values.width, values.fields, tuple(values.field_of_slot.tolist()), facets)

    @property
    def slots(self) -> int:
        """Number S of slots that an item fills."""
        return len(self.field_of_slot)

    @cached_property
    def field_matrix(self) -> Doubles:
        """The slot-to-field matrix, `(S, K)`: 1 where a slot belongs to a field."""
        matrix = np.zeros((self.slots, len(self.fields)))
        matrix[np.arange(self.slots), list(self.field_of_slot)] = 1.0
        return matrix

    def facet_keys(self, domain: Domain) -> list[str]:
        """Keys of the facet rows of a domain, one per facet; an undeclared value counts as `unknown`."""
        facets_of_domain = [(facet, getattr(domain, facet), values) for facet, values in self.facets]
        return [f"{facet}={value if value in values else UNKNOWN}" for facet, value, values in facets_of_domain]

    def facet_columns(self, domain: Domain) -> list[int]:
        """Indices of a domain's facet values among all of them, one per facet; an undeclared value is `unknown`."""
        columns, offset = [], 0
        for facet, values in self.facets:
            value = getattr(domain, facet)
            columns.append(offset + (values.index(value) if value in values else 0))
            offset += len(values)
        return columns

    @cached_property
    def facet_values(self) -> int:
        """Number of all facet values."""
        return sum(len(values) for _, values in self.facets)


@dataclass(frozen=True)
class LiveLayout:
    """Columns of the rows and of the live features. Configuration, content width and crossing alone decide them."""

    half_lives: tuple[float, float]
    prior_examples: float
    ridge_prior: float
    content_width: int
    crossing: Crossing
    history: HistorySpec = NO_HISTORY
    """The events that a history keeps; none if the backbone reads no histories."""

    @staticmethod
    def of(live: LiveConfig, content_width: int, crossing: Crossing, history: HistorySpec = NO_HISTORY) -> LiveLayout:
        """The layout of a configuration, for content vectors `(n, content_width)`."""
        if content_width < 1:
            raise ValueError(
                f"content width is {content_width}: live features need content vectors of at least one number"
            )
        return LiveLayout(live.half_lives_s, live.prior_examples, live.ridge_prior, content_width, crossing, history)

    @property
    def design_width(self) -> int:
        """Width of `design_matrix`: the content vector and the intercept."""
        return self.content_width + 1

    def width_of(self, kind: Kind) -> int:
        """Length of a row's values."""
        return int(self._decays[kind].size)

    def counters_of(self, kind: Kind) -> int:
        """Number of counters of a row, each with one sum for shown and one for clicked."""
        crossing = self.crossing
        widths: dict[Kind, int] = {
            "user": 1 + crossing.values + crossing.facet_values,
            "item": 1,
            "domain": 1,
            "facet": 1 + crossing.values,
        }
        return widths[kind]

    def residuals_of(self, kind: Kind) -> int:
        """Length of the decayed residual sums, with which a row's values begin."""
        return self.width_of(kind) - 2 * self.counters_of(kind)

    def decay_columns(self, kind: Kind) -> NDArray[np.intp]:
        """The decay of each column of a row: short half-life (0), long half-life (1) or none (2)."""
        return self._decays[kind]

    @cached_property
    def _decays(self) -> dict[Kind, NDArray[np.intp]]:
        """Which half-life each column of a row has: SHORT, LONG or NEVER, `(width,)` by kind."""
        sums = [SHORT, LONG, SHORT, LONG]
        pulls = [SHORT] * self.design_width + [LONG] * self.design_width
        moment = [LONG] * self._triangle[0].size
        columns: dict[Kind, list[int]] = {
            "user": sums + pulls + moment,
            "item": sums,
            "domain": sums + pulls,
            "facet": [],
        }
        return {
            kind: np.array([*decays, *[NEVER] * (2 * self.counters_of(kind))], dtype=np.intp)
            for kind, decays in columns.items()
        }

    @cached_property
    def residual_names(self) -> tuple[str, ...]:
        """Names of the columns of T."""
        parts = ("item", "user", "domain", "overall")
        per_half_life = [
            *(f"{part}_{feature}" for part in parts for feature in ("residual", "confidence")),
            *(f"{part}_match" for part in parts[1:]),
        ]
        return (*(f"{name}_{half}" for name in per_half_life for half in HALF_LIVES), "ridge_mean", "ridge_deviation")

    @cached_property
    def counter_names(self) -> tuple[str, ...]:
        """Names of the columns of the counters."""
        facets = [facet for facet, _ in self.crossing.facets]
        return (
            "rate",
            *(f"{part}_{feature}" for part in ("user", "item") for feature in ("rate", "count")),
            *(f"{facet}_{feature}" for facet in facets for feature in ("rate", "count")),
            *(f"user_{facet}_rate" for facet in facets),
            *(f"user_{field}_rate" for field in self.crossing.fields),
            *(f"{facet}_{field}_rate" for facet in facets for field in self.crossing.fields),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all live features: T, then the counters."""
        return self.residual_names + self.counter_names

    @cached_property
    def width(self) -> int:
        """Number k of live features."""
        return len(self.names)

    @property
    def residual_width(self) -> int:
        """Number of columns of T, which come first."""
        return len(self.residual_names)

    def residual_sums(self, residual: Floats, content: Floats) -> Doubles:
        """The contribution of each example to its user's residual sums, float64 `(n, residuals_of("user"))`.

        Rows of other kinds take its first columns. `residual` is `(n,)`, `content` `(n, c)`.
        """
        design = design_matrix(content)
        first, second = self._triangle
        added = np.empty((residual.shape[0], self.residuals_of("user")))
        added[:, : len(HALF_LIVES)] = 1.0
        added[:, len(HALF_LIVES) : _SUMS] = residual[:, None]
        added[:, _SUMS : -first.size] = np.tile(residual[:, None] * design, 2)
        np.multiply(design[:, first], design[:, second], out=added[:, -first.size :])
        return added

    @cached_property
    def labelled_columns(self) -> Doubles:
        """Mask of the columns of `residual_sums` that depend on the label, `(residuals_of("user"),)`."""
        columns = np.zeros(self.residuals_of("user"))
        columns[len(HALF_LIVES) : -self._triangle[0].size] = 1.0
        return columns

    def read_sums(self, values: Doubles) -> tuple[Doubles, Doubles]:
        """Example and residual sums of decayed rows, each `(m, 2)` by half-life."""
        return values[:, :2], values[:, 2:_SUMS]

    def read_pulls(self, values: Doubles) -> Doubles:
        """Residual-weighted content sums of decayed rows of users or domains, `(m, 2, c + 1)` by half-life."""
        end = _SUMS + 2 * self.design_width
        return values[:, _SUMS:end].reshape(-1, 2, self.design_width)

    def read_moment(self, values: Doubles) -> Doubles:
        """Second moment of the content vectors in one decayed user row `(width,)`, long half-life, `(c + 1, c + 1)`."""
        packed = values[_SUMS + 2 * self.design_width : self.residuals_of("user")]
        moment = np.zeros((self.design_width, self.design_width))
        rows, columns = self._triangle
        moment[rows, columns] = packed
        moment[columns, rows] = packed
        return moment

    def read_counters(self, kind: Kind, rows: Rows) -> tuple[Doubles, Doubles]:
        """Counts of shown and clicked, each `(m, counters_of(kind))`."""
        begin, width = self.residuals_of(kind), self.counters_of(kind)
        values = rows.values.astype(np.float64)
        return values[:, begin : begin + width], values[:, begin + width :]

    @cached_property
    def _triangle(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        return cast("tuple[NDArray[np.intp], NDArray[np.intp]]", np.triu_indices(self.design_width))


def design_matrix(content: Floats) -> Doubles:
    """Content vectors `(n, c)` scaled to length 1, with an intercept column, float64 `(n, c + 1)`.

    The scaling makes the features independent of the backbone's scale. A vector of zeros keeps only the intercept.
    """
    design = np.empty((content.shape[0], content.shape[1] + 1))
    design[:, :-1] = content
    norm = np.sqrt((design[:, :-1] ** 2).sum(axis=1, keepdims=True))
    design[:, :-1] /= np.where(norm > 0, norm, 1.0)
    design[:, -1] = _INTERCEPT
    return design

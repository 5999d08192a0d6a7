"""What a live row holds, and what the live features T are called."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from features.config import LiveConfig

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Kind = Literal["user", "item", "domain", "item_domain"]

KINDS: tuple[Kind, ...] = ("user", "item", "domain", "item_domain")
OVERALL = "*"
"""Key of the row of kind `domain` that holds all domains together; the key of a real domain has slashes."""
KEY_SEPARATOR = "\x1f"
"""ASCII unit separator: between the parts of a key."""
SHORT, LONG = 0, 1
HALF_LIVES = ("short", "long")
_COUNTERS = 4  # examples and residuals, each at both half-lives
_INTERCEPT = 0.5
"""Constant beside a content vector of length 1: lets the ridge split a user's mean from a user's taste
(docs/decisions/0020)."""


@dataclass(frozen=True, slots=True)
class LiveRow:
    """Everything known live about one key. `values` of length 0 is a tombstone: the key was evicted."""

    kind: Kind
    key: str
    updated_at: float
    """Event time to which the sums are decayed, seconds."""
    values: Floats
    """The sums, float32 `(layout.width_of(kind),)`."""

    @property
    def tombstone(self) -> bool:
        """Whether the key was evicted."""
        return self.values.size == 0


@dataclass(frozen=True, slots=True)
class Rows:
    """Live rows of one kind side by side; a missing one is all zeros. `m` is the number of keys, or 1 for all items."""

    values: Floats
    """`(m, width)`."""
    updated_at: Doubles
    """`(m,)`."""


@dataclass(frozen=True)
class LiveLayout:
    """Columns of the rows and of T, fixed by configuration and content width alone."""

    half_lives: tuple[float, float]
    prior_examples: float
    ridge_prior: float
    per_domain_items: bool
    content_width: int

    @staticmethod
    def of(live: LiveConfig, content_width: int) -> LiveLayout:
        """The layout of a configuration, for content vectors `(n, content_width)`."""
        if content_width < 1:
            raise ValueError(
                f"content width is {content_width}: live features need content vectors of at least one number"
            )
        return LiveLayout(
            live.half_lives_s, live.prior_examples, live.ridge_prior, live.per_domain_items, content_width
        )

    @property
    def design_width(self) -> int:
        """Width of `design_matrix`: the content vector and the intercept."""
        return self.content_width + 1

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of rows that are kept."""
        return KINDS if self.per_domain_items else KINDS[:3]

    def width_of(self, kind: Kind) -> int:
        """Length of a row's values."""
        return int(self._decays[kind].size)

    def decay_columns(self, kind: Kind) -> NDArray[np.intp]:
        """For each column of a row, whether it decays at the short (0) or the long (1) half-life."""
        return self._decays[kind]

    @cached_property
    def _decays(self) -> dict[Kind, NDArray[np.intp]]:
        counters = [SHORT, LONG, SHORT, LONG]
        pulls = [SHORT] * self.design_width + [LONG] * self.design_width
        moment = [LONG] * self._triangle[0].size
        columns: dict[Kind, list[int]] = {
            "user": counters + pulls + moment,
            "item": counters,
            "domain": counters + pulls,
            "item_domain": counters,
        }
        return {kind: np.array(decays, dtype=np.intp) for kind, decays in columns.items()}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of T."""
        parts = ["item", "user", "domain", "overall"] + (["item_domain"] if self.per_domain_items else [])
        per_half_life = [
            *(f"{part}_{what}" for part in parts for what in ("residual", "confidence")),
            *(f"{part}_match" for part in ("user", "domain", "overall")),
        ]
        return (*(f"{name}_{half}" for name in per_half_life for half in HALF_LIVES), "ridge_mean", "ridge_deviation")

    @cached_property
    def width(self) -> int:
        """Number k of live features."""
        return len(self.names)

    def contributions(self, residual: Floats, content: Floats) -> Doubles:
        """What each example adds to its user's row at the moment it happens, float64 `(n, width_of("user"))`.

        The other kinds' rows are beginnings of it, `[:, :width_of(kind)]`. `residual` is `(n,)`, `content` `(n, c)`.
        """
        design = design_matrix(content)
        first, second = self._triangle
        added = np.empty((residual.shape[0], self.width_of("user")))
        added[:, : len(HALF_LIVES)] = 1.0
        added[:, len(HALF_LIVES) : _COUNTERS] = residual[:, None]
        added[:, _COUNTERS : -first.size] = np.tile(residual[:, None] * design, 2)
        np.multiply(design[:, first], design[:, second], out=added[:, -first.size :])
        return added

    def read_counters(self, values: Doubles) -> tuple[Doubles, Doubles]:
        """Examples and residual sums of decayed rows, each `(m, 2)` by half-life."""
        return values[:, :2], values[:, 2:_COUNTERS]

    def read_pulls(self, values: Doubles) -> Doubles:
        """Residual-weighted content sums of decayed rows of users or domains, `(m, 2, c + 1)` by half-life."""
        end = _COUNTERS + 2 * self.design_width
        return values[:, _COUNTERS:end].reshape(-1, 2, self.design_width)

    def read_moment(self, values: Doubles) -> Doubles:
        """Second moment of the content of one decayed user row `(width,)` at the long half-life, `(c + 1, c + 1)`."""
        packed = values[_COUNTERS + 2 * self.design_width :]
        moment = np.zeros((self.design_width, self.design_width))
        rows, columns = self._triangle
        moment[rows, columns] = packed
        moment[columns, rows] = packed
        return moment

    @cached_property
    def _triangle(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        return cast("tuple[NDArray[np.intp], NDArray[np.intp]]", np.triu_indices(self.design_width))


def design_matrix(content: Floats) -> Doubles:
    """Content vectors `(n, c)` at length 1 with the intercept beside them, float64 `(n, c + 1)`.

    The features must not hang on the backbone's scale. A vector of zeros stays zeros: only the intercept is left.
    """
    design = np.empty((content.shape[0], content.shape[1] + 1))
    design[:, :-1] = content
    norm = np.sqrt((design[:, :-1] ** 2).sum(axis=1, keepdims=True))
    design[:, :-1] /= np.where(norm > 0, norm, 1.0)
    design[:, -1] = _INTERCEPT
    return design

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
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of rows that are kept."""
        return KINDS if self.per_domain_items else KINDS[:3]

    def width_of(self, kind: Kind) -> int:
        """Length of a row's values."""
        return int(self.decay_columns(kind).size)

    def decay_columns(self, kind: Kind) -> NDArray[np.intp]:
        """For each column of a row, whether it decays at the short (0) or the long (1) half-life."""
        columns = [SHORT, LONG, SHORT, LONG]
        if kind in ("user", "domain"):
            columns += [SHORT] * self.content_width + [LONG] * self.content_width
        if kind == "user":
            columns += [LONG] * self._triangle[0].size
        return np.array(columns, dtype=np.intp)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns of T."""
        parts = ["item", "user", "domain", "overall"] + (["item_domain"] if self.per_domain_items else [])
        per_half_life = [
            *(f"{part}_{what}" for part in parts for what in ("residual", "confidence")),
            *(f"{part}_match" for part in ("user", "domain", "overall")),
        ]
        return (*(f"{name}_{half}" for name in per_half_life for half in HALF_LIVES), "ridge_mean", "ridge_deviation")

    @property
    def width(self) -> int:
        """Number k of live features."""
        return len(self.names)

    def contributions(self, kind: Kind, residual: Floats, unit: Floats) -> Doubles:
        """What each example adds to its row at the moment it happens, float64 `(n, width_of(kind))`.

        `residual` is `(n,)`; `unit` is the output of `unit_content`, `(n, c)`.
        """
        n = residual.shape[0]
        error = residual.astype(np.float64)[:, None]
        parts: list[Doubles] = [np.ones((n, 2)), error, error]
        if kind in ("user", "domain"):
            pull = error * unit
            parts += [pull, pull]
        if kind == "user":
            rows, columns = self._triangle
            double = unit.astype(np.float64)
            parts.append(double[:, rows] * double[:, columns])
        return np.concatenate(parts, axis=1)

    def read_counters(self, values: Doubles) -> tuple[Doubles, Doubles]:
        """Examples and residual sums of decayed rows, each `(m, 2)` by half-life."""
        return values[:, :2], values[:, 2:_COUNTERS]

    def read_pulls(self, values: Doubles) -> Doubles:
        """Residual-weighted content sums of decayed rows of users or domains, `(m, 2, c)` by half-life."""
        end = _COUNTERS + 2 * self.content_width
        return values[:, _COUNTERS:end].reshape(-1, 2, self.content_width)

    def read_moment(self, values: Doubles) -> Doubles:
        """Second moment of the content of one decayed user row `(width,)` at the long half-life, `(c, c)`."""
        packed = values[_COUNTERS + 2 * self.content_width :]
        moment = np.zeros((self.content_width, self.content_width))
        rows, columns = self._triangle
        moment[rows, columns] = packed
        moment[columns, rows] = packed
        return moment

    @cached_property
    def _triangle(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        return cast("tuple[NDArray[np.intp], NDArray[np.intp]]", np.triu_indices(self.content_width))


def unit_content(content: Floats) -> Floats:
    """Content vectors `(n, c)` at length 1: the features must not hang on the backbone's scale. Zeros stay zeros."""
    double = content.astype(np.float64)
    norm = np.sqrt((double * double).sum(axis=1, keepdims=True))
    return np.divide(double, norm, out=np.zeros_like(double), where=norm > 0).astype(np.float32)

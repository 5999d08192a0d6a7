"""Columns for regressions and trees: log-odds of every field, log counts and crosses, out of fold where they train.

The statistics of single fields are the backbone's own (`model.backbone.statistics`); those of crosses are counted here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack  # type: ignore[import-untyped,unused-ignore]

from lab.bases.halves import Field, Halves, cross, fields_of
from model.backbone.dataset import TrainingData
from model.backbone.statistics import BLOCKS, STRENGTH
from model.encoding.domain import FACETS

Columns = NDArray[np.float32]
SCALE = 0.3
"""Brings `ln(1 + n)` to the order of one."""


@dataclass(frozen=True)
class HalfColumns:
    """Columns of both halves, `(n, width)` each."""

    train: Columns
    test: Columns


def log_odds(halves: Halves, *, crosses: bool = False, counts: bool = False) -> HalfColumns:
    """Log-odds above the overall rate of each field; with `crosses`, of (facet, item field), (facet, user), (user, item
    field) and (user field, item field); with `counts`, `ln(1 + n)` beside each."""
    pairs = [_crossed(fields_of(halves, data)) if crosses else fields_of(halves, data) for data in _both(halves)]
    label = halves.train.label.numpy().astype(np.float64)
    block = np.arange(len(label)) * BLOCKS // max(len(label), 1)
    parts = [_field_columns(train, test, label, block, counts=counts) for train, test in zip(*pairs, strict=True)]
    train, test = (np.stack([c for part in parts for c in part[side]], axis=1) for side in (0, 1))
    return HalfColumns(train.astype(np.float32), test.astype(np.float32))


def one_hot(halves: Halves) -> tuple[csr_matrix, csr_matrix]:
    """A column per row of every field, sparse; a field's weights sum to 1."""
    train, test = (hstack([_sparse(f) for f in fields_of(halves, data)], format="csr") for data in _both(halves))
    return train, test


def _both(halves: Halves) -> tuple[TrainingData, TrainingData]:
    return halves.train, halves.test


def _crossed(fields: list[Field]) -> list[Field]:
    user, users, items, facets = (
        [f for f in fields if f.name == "user"],
        [f for f in fields if f.name.startswith("user.")],
        [f for f in fields if f.name.startswith("item.")],
        [f for f in fields if f.name.startswith("facet")],
    )
    assert len(facets) == len(FACETS)
    sides = [(a, b) for a in (*facets, *user, *users) for b in items] + [(a, b) for a in facets for b in user]
    return [*fields, *(cross(a, b) for a, b in sides)]


def _sparse(field: Field) -> csr_matrix:
    n, slots = field.rows.shape
    begin = np.arange(0, n * slots + 1, slots)
    return csr_matrix((field.weight.numpy().ravel(), field.rows.numpy().ravel(), begin), shape=(n, field.size))


@dataclass(frozen=True)
class _Counts:
    """Shown and clicked of the keys that occur, `(blocks, keys)`."""

    keys: NDArray[np.int64]
    shown: NDArray[np.float64]
    clicked: NDArray[np.float64]

    @staticmethod
    def of(field: Field, label: NDArray[np.float64], block: NDArray[np.int64]) -> _Counts:
        here = field.weight.numpy() > 0
        keys, index = np.unique(field.rows.numpy()[here], return_inverse=True)
        cell = np.repeat(block, here.sum(axis=1)) * len(keys) + index
        clicks = np.repeat(label, here.sum(axis=1))
        size = BLOCKS * len(keys)
        shown, clicked = np.bincount(cell, minlength=size), np.bincount(cell, clicks, minlength=size)
        return _Counts(keys, *(counts.astype(np.float64).reshape(BLOCKS, -1) for counts in (shown, clicked)))


def _field_columns(
    train: Field, test: Field, label: NDArray[np.float64], block: NDArray[np.int64], *, counts: bool
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """The columns of one field in both halves."""
    table = _Counts.of(train, label, block)
    shown, clicked = table.shown.sum(axis=0), table.clicked.sum(axis=0)
    rate = (label.sum() + 1.0) / (len(label) + 2.0)
    train_columns: list[NDArray[np.float64]] = [np.zeros(len(label)) for _ in range(2)]
    for fold in range(BLOCKS):
        rows = block == fold
        picked = Field(train.name, train.rows[rows], train.weight[rows], train.size)
        odds, count = _lookup(picked, table.keys, shown - table.shown[fold], clicked - table.clicked[fold], rate)
        # The other blocks hold a block less than the whole: without the scale, every count would grow when it is tried.
        train_columns[0][rows], train_columns[1][rows] = odds, count * (BLOCKS / (BLOCKS - 1))
    test_columns = _lookup(test, table.keys, shown, clicked, rate)
    train_columns[1], logged = (SCALE * np.log1p(count) for count in (train_columns[1], test_columns[1]))
    return (train_columns, [test_columns[0], logged]) if counts else (train_columns[:1], [test_columns[0]])


def _lookup(
    field: Field, keys: NDArray[np.int64], shown: NDArray[np.float64], clicked: NDArray[np.float64], rate: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log-odds above the rate of all, and examples, `(n,)` each; means over the slots of a field."""
    rows, weight = field.rows.numpy(), field.weight.numpy()
    at = np.minimum(np.searchsorted(keys, rows), len(keys) - 1)
    known = keys[at] == rows
    n, s = np.where(known, shown[at], 0.0), np.where(known, clicked[at], 0.0)
    p = (s + STRENGTH * rate) / (n + STRENGTH)
    odds = np.log(p / (1 - p)) - np.log(rate / (1 - rate))
    return (odds * weight).sum(axis=1), (n * weight).sum(axis=1)

"""Computes live features, T and counters, from live rows. Training, serving and replay share these functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.live.counters import counter_features
from features.live.layout import Doubles, Floats, Kind, LiveLayout, LiveRow, Rows, design_matrix
from model.encoding.domain import Domain
from model.encoding.item_values import Slots

_SPREAD = 4.0
"""Scales residual means, which are small, to the spread of the representation, so that they are learned as fast
(docs/decisions/0020)."""


@dataclass(frozen=True, slots=True)
class RequestItems:
    """A request's domain and its `n` items, which its live features depend on besides the rows."""

    domain: Domain
    content: Floats
    """Content vectors of the items, `(n, c)`."""
    values: Slots
    """Values of the items' crossed fields, int16 `(n, S)`."""


def assemble(
    layout: LiveLayout,
    time: float,
    request: RequestItems,
    *,
    user: LiveRow | None,
    domain: LiveRow | None,
    overall: LiveRow | None,
    facets: Sequence[LiveRow | None],
    items: Sequence[LiveRow | None],
) -> Floats:
    """The live features of one request at event time `time`, float32 `(n, k)`; a missing row counts as zeros.

    `facets` holds a row for each of `layout.crossing.facets`, `items` `n` rows. Raises ValueError for rows of another
    layout.
    """
    return compute(
        layout,
        time,
        request,
        user=_stack(layout, "user", [user]),
        domain=_stack(layout, "domain", [domain]),
        overall=_stack(layout, "domain", [overall]),
        facets=_stack(layout, "facet", facets),
        item=_stack(layout, "item", items),
    )


def compute(
    layout: LiveLayout,
    time: float,
    request: RequestItems,
    *,
    user: Rows,
    domain: Rows,
    overall: Rows,
    facets: Rows,
    item: Rows,
) -> Floats:
    """As `assemble`, from rows that are arrays already: `user`, `domain` and `overall` hold one row, `item` `n`."""
    residuals = _residual_features(layout, time, request.content, user=user, domain=domain, overall=overall, item=item)
    columns = layout.crossing.facet_columns(request.domain)
    counters = counter_features(layout, request.values, columns, user=user, overall=overall, facets=facets, item=item)
    return np.concatenate([residuals, counters], axis=1).astype(np.float32)


def _residual_features(
    layout: LiveLayout, time: float, content: Floats, *, user: Rows, domain: Rows, overall: Rows, item: Rows
) -> Doubles:
    """T, `(n, residual_width)`."""
    design = design_matrix(content)
    decayed = [
        _decayed(layout, "item", item, time),
        _decayed(layout, "user", user, time),
        _decayed(layout, "domain", domain, time),
        _decayed(layout, "domain", overall, time),
    ]
    live = np.empty((content.shape[0], layout.residual_width))
    for part, values in enumerate(decayed):
        examples, residuals = layout.read_sums(values)
        # Pseudo-examples of residual 0 keep a key with few examples near the frozen model's prediction.
        shrunk = examples + layout.prior_examples
        live[:, 4 * part : 4 * part + 2] = residuals * (_SPREAD / shrunk)
        live[:, 4 * part + 2 : 4 * part + 4] = examples / shrunk
    first = 4 * len(decayed)
    for part, values in enumerate(decayed[1:]):
        live[:, first + 2 * part : first + 2 * part + 2] = _match(layout, values, design)
    live[:, -2:] = _ridge(layout, decayed[1], design)
    return live


def _decayed(layout: LiveLayout, kind: Kind, rows: Rows, time: float) -> Doubles:
    """Residual sums of rows decayed to `time`, float64; a row that is newer than the request is not decayed."""
    age = np.maximum(time - rows.updated_at, 0.0)[:, None]
    factor = np.exp2(-age / np.array(layout.half_lives))
    width = layout.residuals_of(kind)
    decayed: Doubles = rows.values[:, :width] * factor[:, layout.decay_columns(kind)[:width]]
    return decayed


def _match(layout: LiveLayout, values: Doubles, design: Doubles) -> Doubles:
    """Shrunk residual-weighted mean content times each item's content, `(n, 2)` by half-life. The formula is ours."""
    examples, _ = layout.read_sums(values)
    pull = layout.read_pulls(values)[0, :, :-1] * (_SPREAD / (examples[0] + layout.prior_examples))[:, None]
    match: Doubles = design[:, :-1] @ pull.T
    return match


def _ridge(layout: LiveLayout, user: Doubles, design: Doubles) -> Doubles:
    """Predictive mean and deviation of the user's residual per item, `(n, 2)`, in units of the noise.

    Bayesian linear regression (Bishop, Pattern Recognition and Machine Learning, 3.3) with forgetting. Posterior of
    the weights: precision `S = prior I + sum x x'`, mean `S^-1 sum r x`; deviation `sqrt(x' S^-1 x)`.
    """
    precision = layout.read_moment(user[0])
    precision.flat[:: layout.design_width + 1] += layout.ridge_prior
    pull = layout.read_pulls(user)[0, 1]
    solved = np.linalg.solve(precision, design.T)
    variance = (design.T * solved).sum(axis=0)
    return np.stack([pull @ solved, np.sqrt(np.maximum(variance, 0.0))], axis=1) * _SPREAD


def _stack(layout: LiveLayout, kind: Kind, rows: Sequence[LiveRow | None]) -> Rows:
    """The rows as arrays, `(n, width)`; a missing one is all zeros, as if it had never been counted."""
    width = layout.width_of(kind)
    values = np.zeros((len(rows), width), dtype=np.float32)
    updated_at = np.zeros(len(rows))
    for index, row in enumerate(rows):
        if row is None or row.tombstone:
            continue
        if row.values.shape != (width,):
            raise ValueError(
                f"live row {row.kind} {row.key!r} holds {row.values.size} values where this configuration has {width}: "
                "it was written with another content width, other fields or other domains"
            )
        values[index] = row.values
        updated_at[index] = row.updated_at
    return Rows(values, updated_at)

"""From live rows to the live features T: one function, whoever asks (training, serving, replay)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.live.layout import Doubles, Floats, Kind, LiveLayout, LiveRow, Rows, design_matrix

_SPREAD = 4.0
"""Residuals are small numbers: times this, their means spread like the representation and are learned as fast
(docs/decisions/0020)."""


def assemble(
    layout: LiveLayout,
    time: float,
    content: Floats,
    *,
    user: LiveRow | None,
    domain: LiveRow | None,
    overall: LiveRow | None,
    items: Sequence[LiveRow | None],
    item_domains: Sequence[LiveRow | None] | None = None,
) -> Floats:
    """T of one request at event time `time`, float32 `(n, k)`; a missing row counts as nothing seen.

    `content` is `(n, c)`; `items` (and `item_domains`, where the layout has them) hold `n` rows. Raises ValueError for
    rows of another layout.
    """
    pairs = item_domains if item_domains is not None else [None] * len(items)
    return compute(
        layout,
        time,
        content,
        user=_stack(layout, "user", [user]),
        domain=_stack(layout, "domain", [domain]),
        overall=_stack(layout, "domain", [overall]),
        item=_stack(layout, "item", items),
        item_domain=_stack(layout, "item_domain", pairs) if layout.per_domain_items else None,
    )


def compute(
    layout: LiveLayout,
    time: float,
    content: Floats,
    *,
    user: Rows,
    domain: Rows,
    overall: Rows,
    item: Rows,
    item_domain: Rows | None,
) -> Floats:
    """`assemble` on rows that already lie side by side: `user`, `domain` and `overall` hold one row, the others `n`."""
    design = design_matrix(content)
    decayed = [
        _decayed(layout, "item", item, time),
        _decayed(layout, "user", user, time),
        _decayed(layout, "domain", domain, time),
        _decayed(layout, "domain", overall, time),
    ]
    if item_domain is not None:
        decayed.append(_decayed(layout, "item_domain", item_domain, time))
    live = np.empty((content.shape[0], layout.width))
    for part, values in enumerate(decayed):
        examples, residuals = layout.read_counters(values)
        # Pseudo-examples of residual 0: a key with few examples stays near what the frozen model says.
        shrunk = examples + layout.prior_examples
        live[:, 4 * part : 4 * part + 2] = residuals * (_SPREAD / shrunk)
        live[:, 4 * part + 2 : 4 * part + 4] = examples / shrunk
    first = 4 * len(decayed)
    for part, values in enumerate(decayed[1:4]):
        live[:, first + 2 * part : first + 2 * part + 2] = _match(layout, values, design)
    live[:, -2:] = _ridge(layout, decayed[1], design)
    return live.astype(np.float32)


def _decayed(layout: LiveLayout, kind: Kind, rows: Rows, time: float) -> Doubles:
    """Rows as of `time`, float64; a row that is newer than the request is taken as it is."""
    age = np.maximum(time - rows.updated_at, 0.0)[:, None]
    factor = np.exp2(-age / np.array(layout.half_lives))
    decayed: Doubles = rows.values * factor[:, layout.decay_columns(kind)]
    return decayed


def _match(layout: LiveLayout, values: Doubles, design: Doubles) -> Doubles:
    """Shrunk residual-weighted mean content, times each item's content: `(n, 2)` by half-life. The formula is ours."""
    examples, _ = layout.read_counters(values)
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
    width = layout.width_of(kind)
    values = np.zeros((len(rows), width), dtype=np.float32)
    updated_at = np.zeros(len(rows))
    for index, row in enumerate(rows):
        if row is None or row.tombstone:
            continue
        if row.values.shape != (width,):
            raise ValueError(
                f"live row {row.kind} {row.key!r} holds {row.values.size} values where this configuration has {width}: "
                "it was written with another content width"
            )
        values[index] = row.values
        updated_at[index] = row.updated_at
    return Rows(values, updated_at)

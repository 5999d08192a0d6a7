"""From counters to features: click rates as log-odds against a parent's rate (ours; the rates are beta posteriors).

With `s` clicks of `n` shown, a rate is shrunk to its parent's `q` by `k` examples, `p = (s + k q) / (n + k)`, and
enters as `ln odds(p) - ln odds(q)`, which is 0 for a key without examples. User, item and facet have the overall rate
as parent; (user, facet) and (user, item value) the user's, (facet, item value) the facet's (docs/decisions/0080).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from features.live.layout import Crossing, Doubles, LiveLayout, Rows

_STRENGTH = 10.0
"""Examples that the parent's rate counts for; half or twice as many change no figure (docs/decisions/0080)."""
_FACET_VALUE_STRENGTH = 30.0
_LOG_COUNT_SCALE = 0.3
"""Scales `ln(1 + n)` to order one."""


def counter_features(
    layout: LiveLayout,
    slots: NDArray[np.int16],
    facet_columns: list[int],
    *,
    user: Rows,
    overall: Rows,
    facets: Rows,
    item: Rows,
) -> Doubles:
    """The columns `layout.counter_names` of one request, `(n, c)`.

    `slots` are the items' values `(n, S)`; `user` and `overall` hold one row, `facets` one per facet, `item` `n`.
    """
    crossing, n = layout.crossing, len(slots)
    shown, clicked = layout.read_counters("domain", overall)
    rate = (clicked[0] + 2.0) / (shown[0] + 5.0)
    columns = [np.full(n, log_odds(rate)[0])]
    user_shown, user_clicked = layout.read_counters("user", user)
    item_shown, item_clicked = layout.read_counters("item", item)
    facet_shown, facet_clicked = layout.read_counters("facet", facets)
    user_rate = _shrunk(user_shown[:, 0], user_clicked[:, 0], rate, _STRENGTH)
    facet_rate = _shrunk(facet_shown[:, 0], facet_clicked[:, 0], rate, _STRENGTH)
    item_rate = _shrunk(item_shown[:, 0], item_clicked[:, 0], rate, _STRENGTH)
    for part_rate, part_shown in ((user_rate, user_shown), (item_rate, item_shown)):
        columns.append(np.broadcast_to(log_odds(part_rate) - log_odds(rate), n))
        columns.append(np.broadcast_to(_LOG_COUNT_SCALE * np.log1p(part_shown[:, 0]), n))
    for facet in range(len(facet_rate)):
        columns.append(np.full(n, log_odds(facet_rate[facet]) - log_odds(rate)[0]))
        columns.append(np.full(n, _LOG_COUNT_SCALE * np.log1p(facet_shown[facet, 0])))
    values = slice(1, 1 + crossing.values)
    in_facet = [1 + crossing.values + column for column in facet_columns]
    crossed = _against(user_shown[0, in_facet], user_clicked[0, in_facet], user_rate[0], _STRENGTH)
    columns += [np.full(n, value) for value in crossed]
    by_value = [_against(user_shown[0, values], user_clicked[0, values], user_rate[0], _STRENGTH)]
    by_value += [
        _against(facet_shown[facet, values], facet_clicked[facet, values], facet_rate[facet], _FACET_VALUE_STRENGTH)
        for facet in range(len(facet_rate))
    ]
    means = _mean_by_field(crossing, np.stack(by_value), slots)
    return np.column_stack([*columns, *means.transpose(0, 2, 1).reshape(-1, n)])


def log_odds(rate: Doubles) -> Doubles:
    """`ln(p / (1 - p))`."""
    odds: Doubles = np.log(rate) - np.log1p(-rate)
    return odds


def _shrunk(shown: Doubles, clicked: Doubles, parent: Doubles, strength: float) -> Doubles:
    rate: Doubles = (clicked + strength * parent) / (shown + strength)
    return rate


def _against(shown: Doubles, clicked: Doubles, parent: Doubles, strength: float) -> Doubles:
    """Log-odds of the shrunk rates less those of the parent."""
    return log_odds(_shrunk(shown, clicked, parent, strength)) - log_odds(parent)


def _mean_by_field(crossing: Crossing, by_value: Doubles, slots: NDArray[np.int16]) -> Doubles:
    """Mean over an item's values in each field, `(parts, n, K)`, from numbers by value `(parts, V)`."""
    has = slots >= 0
    count = np.maximum(has @ crossing.field_matrix, 1.0)
    picked = np.where(has, np.pad(by_value, ((0, 0), (0, 1)))[:, slots.astype(np.intp)], 0.0)
    means: Doubles = picked @ crossing.field_matrix / count
    return means

"""Queries of a scripted stream's users, and their effect on clicks (ours).

A user looks for an item, drawn by the taste of the user's community, and asks for one or two of its values in
categorical fields (genres), in one of a few wordings. An item's fit is the share of the requested values that it has:

    logit P(click) = ... + match * fit(query, item)

A share of the items shown for a query is judged: their relevance is the fit, or with some errors its opposite.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lab.streams.scripted.script import QueryModel
from lab.streams.scripted.world import Matrix, World
from lab.streams.stream import StreamError
from model.config import NO_QUERY
from model.encoding.spelling import spell_list

_WORDINGS = ("{}", "{} films", "a good {}", "something like {}")
_OTHERS = 0.1
"""Share of retrieved items that do not fit the query: no search is perfect, and every request needs enough items."""


class ScriptedQueries:
    """The queries of one script."""

    def __init__(self, model: QueryModel, world: World) -> None:
        self._model, self._world = model, world
        values, has = _categories(world)
        self._asked = _askable(has, world.script.shown, world.script.name)
        self.texts = tuple(
            wording.format(" and ".join(values[v] for v in asked)).lower()
            for asked in self._asked
            for wording in _WORDINGS
        )
        """By query: the requested values, then the wording."""
        self.fit = np.stack([has[:, list(asked)].mean(1) for asked in self._asked]).astype(np.float32)
        """Fit of each item to each combination of requested values, `(asked, items)`."""
        self._all = [np.flatnonzero(full) for full in _fits_of_items(self.fit)]
        self._mind = np.cumsum(np.exp(0.7 * world.base_taste.astype(np.float64)) * world.exposure, axis=1)
        scenes = world.space.values["scene"]
        self._scenes = [scenes.index(scene) for scene in model.scenes] or list(range(len(scenes)))

    def draw(self, rng: np.random.Generator, user: NDArray[np.int64], domain: NDArray[np.int64]) -> NDArray[np.int64]:
        """The query of each request, `NO_QUERY` for a recommendation, `(r,)`."""
        chance, mind, which, wording = rng.random((4, len(user)))
        searches = np.isin(domain[:, 0], self._scenes) & (chance < self._model.share)
        query = np.full(len(user), NO_QUERY, dtype=np.int64)
        for row in np.flatnonzero(searches):
            mass = self._mind[self._world.community[user[row]]]
            fitting = self._all[min(int(np.searchsorted(mass, mind[row] * mass[-1], side="right")), len(mass) - 1)]
            if len(fitting):  # else the item in mind has no value that can be asked for
                asked = fitting[int(which[row] * len(fitting))]
                query[row] = asked * len(_WORDINGS) + int(wording[row] * len(_WORDINGS))
        return query

    def asked(self, query: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row of `fit` for each query, whatever its wording; `NO_QUERY` is kept."""
        return np.where(query == NO_QUERY, NO_QUERY, query // len(_WORDINGS))

    def logit(self, query: NDArray[np.int64], items: NDArray[np.int64]) -> Matrix:
        """Contribution of a query to the click logit of each shown item, `(r, k)`; 0 for a recommendation."""
        asked = self.asked(query)
        fit = self.fit[asked[:, None], items] * (asked != NO_QUERY)[:, None]
        return np.asarray(np.float32(self._model.match) * fit, dtype=np.float32)

    @property
    def judges(self) -> bool:
        """Whether some items are judged."""
        return self._model.judged > 0

    def judge(self, rng: np.random.Generator, query: NDArray[np.int64], items: NDArray[np.int64]) -> Matrix | None:
        """How relevant each shown item is to its query, nan where nobody judges, `(r, k)`; None without judgements."""
        if not self.judges:
            return None
        chance, wrong = rng.random((2, *items.shape))
        asked = self.asked(query)
        fit = self.fit[asked[:, None], items]
        given = np.where(wrong < self._model.misjudged, 1 - fit, fit)
        known = (chance < self._model.judged) & (asked != NO_QUERY)[:, None]
        return np.where(known, given, np.float32(np.nan))

    def retrieved(self, rng: np.random.Generator, query: NDArray[np.int64], shown: int) -> NDArray[np.bool_]:
        """Mask of the cells that are retrieved by the query, `(r, k)`."""
        return np.asarray((rng.random((len(query), shown)) < self._model.retrieved) & (query != NO_QUERY)[:, None])

    def mass(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Chances of the items, `(asked, items)`, for items that are shown by `weights`, `(items,)`."""
        full = np.where(self.fit >= 1, weights, 0.0)
        total = np.maximum(full.sum(1, keepdims=True), 1e-12)
        return np.asarray((1 - _OTHERS) * full / total + _OTHERS * weights / weights.sum())


def _categories(world: World) -> tuple[list[str], NDArray[np.float64]]:
    """All values of the categorical item fields, and a mask of each item's values, `(items, values)`."""
    fields = [spec.name for spec in world.catalogue.item_fields if spec.kind != "number"]
    of_item = [[value for name in fields for value in spell_list(item.fields.get(name))] for item in
               world.catalogue.items]  # fmt: skip
    values = sorted({value for values_of in of_item for value in values_of})
    place = {value: n for n, value in enumerate(values)}
    has = np.zeros((len(of_item), len(values)))
    for item, values_of in enumerate(of_item):
        has[item, [place[value] for value in values_of]] = 1.0
    return values, has


def _askable(has: NDArray[np.float64], shown: int, name: str) -> list[tuple[int, ...]]:
    """The values and pairs of values that enough items have to fill a request. Raises StreamError without any."""
    count = has.T @ has
    values = [v for v in range(has.shape[1]) if count[v, v] >= shown]
    if not values:
        raise StreamError(
            f"script {name}: queries ask for values of categorical item fields, but none stands on {shown} items or "
            "more: declare such a field, show fewer items, or leave `queries` out"
        )
    return [*((v,) for v in values), *(pair for pair in combinations(values, 2) if count[pair] >= shown)]


def _fits_of_items(fit: Matrix) -> NDArray[np.bool_]:
    """Mask of the combinations that each item has completely, `(items, asked)`."""
    return np.asarray(fit.T >= 1)

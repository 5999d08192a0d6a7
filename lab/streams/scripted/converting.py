"""Conversions of a scripted stream's clicks: they follow a taste of their own, which clicks alone do not reveal (ours).

    logit P(conversion | click) = bias + taste(community of the user, item) + worth(item)

The bias gives the script's `rate` among clicks before anything drifts. Conversions do not drift by themselves: they
follow clicks that do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lab.streams.conversions import Conversions
from lab.streams.scripted.calibration import bias_for
from lab.streams.scripted.script import ConversionModel
from lab.streams.scripted.world import Matrix, World, stream_rng


class ScriptedConversions:
    """The conversions of one script."""

    def __init__(self, model: ConversionModel, world: World) -> None:
        worth = stream_rng(world.script, "conversion worth").normal(size=len(world.catalogue.items))
        self._model, self._community = model, world.community
        self._logit = np.float32(model.taste) * world.taste("conversion") + np.float32(model.worth) * worth.astype(
            np.float32
        )
        self._bias = 0.0

    def calibrate(self, user: NDArray[np.int64], items: NDArray[np.int64], click: Matrix) -> None:
        """Sets the rate on requests `(r,)` with items and click probabilities `(r, k)` from before any drift."""
        logit = self._logit[self._community[user][:, None], items].astype(np.float64)
        self._bias = bias_for(logit, self._model.rate, weight=click.astype(np.float64))

    def probability(self, user: NDArray[np.int64], items: NDArray[np.int64]) -> Matrix:
        """True probability of a conversion once clicked, `(r, k)`."""
        logit = self._logit[self._community[user][:, None], items] + self._bias
        return np.asarray(1.0 / (1.0 + np.exp(-logit)), dtype=np.float32)

    def follow(
        self,
        rng: Callable[[str], np.random.Generator],
        user: NDArray[np.int64],
        items: NDArray[np.int64],
        clicked: NDArray[np.bool_],
    ) -> Conversions:
        """Conversions of the clicks that users really made; `rng` gives a generator for each purpose."""
        probability = self.probability(user, items)
        happened = clicked & (rng("conversion").random(items.shape, dtype=np.float32) < probability)
        delay = rng("conversion delay").standard_exponential(items.shape, dtype=np.float32)
        return Conversions(happened, delay * np.float32(self._model.delay_s), probability)

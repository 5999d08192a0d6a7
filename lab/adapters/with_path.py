"""Another adapter beside a closed-form path: what a method of the literature gains by x and T in a line."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lab.adapters.base import Adapter, AdapterContext, StreamBatch
from lab.adapters.closed_form import PRIOR
from lab.adapters.closed_path import ClosedPath
from lab.adapters.line_features import LineFeatures

HALF_LIFE = 2_000.0
"""Memory of the path, in examples."""


class WithPath:
    """`inner + m'[x, T, 1]`: the path takes the inner adapter's logit as its offset (ours).

    The inner adapter learns as it would alone; the path learns the remaining error.
    """

    def __init__(self, inner: Adapter, context: AdapterContext) -> None:
        self._inner = inner
        self._features = LineFeatures(context.backbone.width, context.live_width)
        self._path = ClosedPath(self._features.width, HALF_LIFE, PRIOR)
        self.parameters = inner.parameters + self._features.width
        self.state_bytes = inner.state_bytes + sum(tensor.nbytes for tensor in self._path.state().values())

    def score(self, batch: StreamBatch) -> Tensor:
        """The inner adapter's logit and the path, `(n,)`."""
        return self._inner.score(batch) + self._path.logit(self._features(batch.micro.x, batch.micro.live))

    def learn(self, batch: StreamBatch) -> None:
        """One Newton step of the path on the inner adapter's logits from before learning, then the inner adapter."""
        micro = batch.micro
        self._features.observe(micro.x, micro.live)
        self._path.learn(self._features(micro.x, micro.live), self._inner.score(batch), micro.label, micro.weight)
        self._inner.learn(batch)


def with_path(make: Callable[[AdapterContext, float], Adapter]) -> Callable[[AdapterContext, float], Adapter]:
    """The builder of an adapter beside a path."""
    return lambda context, rate: WithPath(make(context, rate), context)

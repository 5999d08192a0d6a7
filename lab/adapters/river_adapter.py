"""Logistic regression of river on the same features: what a user of an online-learning library would begin with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lab.adapters import AdapterContext, AdapterSpec, StreamBatch


class RiverLogistic:
    """`x` (layer-normed), T and the frozen logit into `river.linear_model.LogisticRegression`, in mini-batches.

    No rehearsal: it sees every example once, as the library is used.
    """

    def __init__(self, context: AdapterContext, rate: float) -> None:
        from river import linear_model, optim

        self._model: Any = linear_model.LogisticRegression(optim.SGD(rate))
        self._seen = False
        width = context.backbone.width + context.live_width + 1
        self._names = [f"f{n}" for n in range(width)]
        self.parameters = width + 1
        self.state_bytes = 3 * 8 * width

    def score(self, batch: StreamBatch) -> Tensor:
        """Its log odds; the frozen logit until the first batch was learned."""
        if not self._seen:
            return batch.micro.frozen_logit
        probability = self._model.predict_proba_many(self._frame(batch))
        clicks = torch.from_numpy(np.asarray(probability[True], dtype=np.float32))
        return torch.logit(clicks, eps=1e-6)

    def learn(self, batch: StreamBatch) -> None:
        """One SGD step on the micro-batch."""
        label = pd.Series(batch.micro.label.numpy() > 0.5)
        self._model.learn_many(self._frame(batch), label)
        self._seen = True

    def _frame(self, batch: StreamBatch) -> pd.DataFrame:
        micro = batch.micro
        columns = torch.cat([micro.x, micro.live, micro.frozen_logit[:, None]], dim=1)
        return pd.DataFrame(columns.double().numpy(), columns=self._names)


RIVER = AdapterSpec(
    "reference",
    "river's logistic regression on x, T and the frozen logit",
    1e-1,
    RiverLogistic,
    (1e-2, 3e-2, 1e-1, 3e-1),
)

"""Adapters without a network of their own: T with a linear head, and an error memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lab.adapters.base import AdapterContext, StreamBatch
from lab.adapters.gradient import GradientAdapter


def live_head(context: AdapterContext, rate: float) -> GradientAdapter:
    """`frozen logit + w'T + b`: what the live features alone are worth."""
    weight, bias = nn.Parameter(torch.zeros(context.live_width)), nn.Parameter(torch.zeros(1))

    def logits(batch: StreamBatch) -> Tensor:
        return batch.micro.frozen_logit + torch.addmv(bias, batch.micro.live, weight)

    return GradientAdapter([([weight, bias], rate)], logits, context.training, context.seed)


class ErrorMemory:
    """Nearest recent errors of the frozen model correct its probability (idea: ReLoop2, KDD 2023; formula ours).

    `p = sigmoid(frozen) + share * sum_i softmax(cos(x, x_i) / temperature) (y_i - p_i)` over the nearest `neighbours`
    of the last `size` examples. Nothing is trained; its learning rate is `share`.
    """

    parameters = 0

    def __init__(
        self,
        context: AdapterContext,
        share: float,
        *,
        size: int = 4_096,
        neighbours: int = 64,
        temperature: float = 0.1,
    ) -> None:
        self._share, self._neighbours, self._temperature = share, neighbours, temperature
        self._key = torch.zeros(size, context.backbone.width)
        self._error = torch.zeros(size)
        self._filled = self._next = 0
        self.state_bytes = 4 * (self._key.numel() + self._error.numel())

    def score(self, batch: StreamBatch) -> Tensor:
        """Logits `(n,)` of the frozen probability plus the errors of similar stored examples."""
        micro = batch.micro
        if self._filled < self._neighbours:
            return micro.frozen_logit
        similarity = torch.nn.functional.normalize(micro.x, dim=1) @ self._key[: self._filled].T
        best, index = similarity.topk(self._neighbours, dim=1)
        error = (torch.softmax(best / self._temperature, dim=1) * self._error[index]).sum(1)
        return torch.logit(torch.sigmoid(micro.frozen_logit) + self._share * error, eps=1e-4)

    def learn(self, batch: StreamBatch) -> None:
        """Stores the examples' errors in place of the oldest."""
        micro = batch.micro
        position = (self._next + torch.arange(len(batch))) % len(self._error)
        self._key[position] = torch.nn.functional.normalize(micro.x, dim=1)
        self._error[position] = micro.label - torch.sigmoid(micro.frozen_logit)
        self._next = int((self._next + len(batch)) % len(self._error))
        self._filled = min(self._filled + len(batch), len(self._error))

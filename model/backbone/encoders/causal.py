"""Base class of the encoders that read from left to right: a user's vector is the state after the newest event."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class CausalEncoder(nn.Module, ABC):
    """Gives each event a state that depends on no later event. Padding follows the newest event, so no event sees
    it."""

    @abstractmethod
    def states(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The state after each event, `(u, h, e)`, from event vectors `(u, h, e)` and a mask of real events `(u,
        h)`."""

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The state after the newest event, `(u, e)`; for a user without events, the state at the first position."""
        last = (mask.sum(1) - 1).clamp(min=0)
        return self.states(tokens, mask)[torch.arange(len(tokens)), last]

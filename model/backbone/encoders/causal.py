"""What the encoders that read from left to right share: the user is what is known after the newest event."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class CausalEncoder(nn.Module, ABC):
    """A state per event that depends on no later event. Padding stands behind the newest event, where none sees it."""

    @abstractmethod
    def states(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The state after each event, `(u, h, e)`, from events `(u, h, e)` and which are there `(u, h)`."""

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The state after the newest event, `(u, e)`; of a user without events the one at the first place."""
        last = (mask.sum(1) - 1).clamp(min=0)
        return self.states(tokens, mask)[torch.arange(len(tokens)), last]

"""Adam on one flat vector: a step of a small network costs a handful of tensor operations, whatever its layers.

Why not `torch.optim.Adam`: docs/decisions/0032. A test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class AdapterAdam:
    """Adam (Kingma & Ba, 2015) over parameter groups with a rate each.

    The parameters are moved into one buffer of which they become views, and so are their gradients.
    """

    def __init__(
        self,
        groups: Sequence[tuple[Sequence[Tensor], float]],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        parameters = [p for members, _ in groups for p in members]
        size = sum(p.numel() for p in parameters)
        self.values, self.gradient = torch.zeros(size), torch.zeros(size)
        self.first, self.second = torch.zeros(size), torch.zeros(size)
        self._scale = torch.empty(size)
        self._rates = [(sum(p.numel() for p in members), rate) for members, rate in groups]
        self.betas, self.epsilon, self.steps = betas, epsilon, 0
        begin = 0
        for parameter in parameters:
            end = begin + parameter.numel()
            self.values[begin:end] = parameter.detach().flatten()
            parameter.data = self.values[begin:end].view(parameter.shape)
            parameter.grad = self.gradient[begin:end].view(parameter.shape)
            begin = end

    def zero_gradient(self) -> None:
        """Clears the gradient before a backward pass."""
        self.gradient.zero_()

    @torch.no_grad()
    def step(self, clip: float) -> None:
        """One update with the gradient's L2 norm limited to `clip`."""
        norm = float(torch.linalg.vector_norm(self.gradient))
        if norm > clip:
            self.gradient.mul_(clip / norm)
        self.steps += 1
        b1, b2 = self.betas
        self.first.lerp_(self.gradient, 1 - b1)
        self.second.mul_(b2).addcmul_(self.gradient, self.gradient, value=1 - b2)
        # The bias corrections go into the rate and epsilon, so that no corrected copy of a moment is made.
        second_correction = (1 - b2**self.steps) ** 0.5
        scale = torch.sqrt(self.second, out=self._scale).add_(self.epsilon * second_correction)
        begin = 0
        for size, rate in self._rates:
            part = slice(begin, begin + size)
            self.values[part].addcdiv_(
                self.first[part], scale[part], value=-rate * second_correction / (1 - b1**self.steps)
            )
            begin += size

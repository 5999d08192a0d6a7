"""What stands beside the kernel's core: closed-form paths of several half-lives, and the weights that mix all arms.

The arms are the frozen model (if trust is on) and, for each half-life, the core with that path; without a closed-form
path there is one arm, the core. Every micro-batch updates the weights before any arm learns from it. Two memories, a
short and a long one, stand for a best half-life, which no stream tells beforehand (docs/decisions/0075).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from model.config import LearnerConfig
from model.kernel.batch import MicroBatch
from model.kernel.closed_path import ClosedPath, information
from model.kernel.kernel import Kernel
from model.kernel.trust import Trust


class Arms:
    """Learns the linear paths and the trust of `kernel`, and keeps its buffers `path` and `trust` current."""

    def __init__(self, kernel: Kernel, config: LearnerConfig) -> None:
        self.kernel = kernel
        half_lives = config.path_half_lives if kernel.path_width else ()
        self.paths = [ClosedPath(kernel.path_width, half_life, config.path_prior) for half_life in half_lives]
        self._frozen = int(kernel.config.use_trust)
        self._trust = Trust(self._frozen + max(1, len(half_lives)), config.trust_half_life, config.trust_rate)
        self.mixed_weights = torch.zeros(kernel.path_width)
        """Mean of the paths' weights, each path weighted as its arm, `(p,)`: the core learns what they leave over."""
        self._update_kernel()

    @property
    def trust(self) -> float:
        """Share of the kernel in what is served, 0 to 1."""
        return float(1 - self._trust.weights[0]) if self._frozen else 1.0

    @property
    def parameters(self) -> int:
        """Weights of the paths and of the arms."""
        return sum(len(path.mean) for path in self.paths) + len(self._trust.weights)

    def observe(self, batch: MicroBatch) -> Tensor | None:
        """The paths' features of a batch that is about to be learned, `(n, p)`; None if there are no paths.

        The first examples also give the features their scale.
        """
        if self.kernel.path_features is not None:
            self.kernel.path_features.observe(batch.x, batch.live)
        return self.kernel.features(batch.x, batch.live)

    def learn(self, core: Tensor, batch: MicroBatch, features: Tensor | None, has_evidence: Tensor | None) -> None:
        """Updates the arms' weights by the core's logit from before learning, `(n,)`, then the paths learn.

        `features` as `observe` gives them; `has_evidence` as `Kernel.has_evidence` does.
        """
        frozen, label, weight = batch.frozen_logit, batch.label, batch.weight
        arms = [frozen] if self._frozen else []
        if features is None:
            arms.append(core)
        else:
            path_logits = [path.logit(features) for path in self.paths]
            arms += [core + (logit if has_evidence is None else logit * has_evidence) for logit in path_logits]
        if len(arms) > 1:
            self._trust.update(torch.stack(arms).double(), label.double(), weight.double())
        if features is not None:
            # One product serves all paths: where they disagree, their curvatures hardly differ (docs/decisions/0063).
            shared = information(features, frozen + features @ self.mixed_weights, weight)
            for path in self.paths:
                # Beside the frozen model alone: it is the core that learns what the paths leave over.
                path.learn(features, frozen, label, weight, shared)
        self._update_kernel()

    def _update_kernel(self) -> None:
        """A mixture of logits is linear in the paths' weights, so the kernel needs only their mean, scaled by trust."""
        self.kernel.trust.fill_(self.trust)
        if self.paths:
            weights = self._trust.weights[self._frozen :].float()
            self.mixed_weights = (weights / weights.sum()) @ torch.stack([path.mean for path in self.paths])
            self.kernel.path.copy_(self.trust * self.mixed_weights)

    def state(self) -> dict[str, Tensor]:
        """All of it, for a snapshot."""
        state = {"arm_weights": self._trust.weights}
        if self.kernel.path_features is not None:
            state |= {f"path_{name}": tensor for name, tensor in self.kernel.path_features.state_dict().items()}
        for number, path in enumerate(self.paths):
            state |= {f"{name}.{number}": tensor for name, tensor in path.state().items()}
        return state

    def load(self, state: Mapping[str, Tensor]) -> None:
        """The inverse of `state`."""
        self._trust.weights = state["arm_weights"].clone()
        if self.kernel.path_features is not None:
            for name, tensor in self.kernel.path_features.state_dict().items():
                tensor.copy_(state[f"path_{name}"])
        for number, path in enumerate(self.paths):
            path.load({name: state[f"{name}.{number}"] for name in path.state()})
        self._update_kernel()

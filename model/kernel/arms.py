"""What stands beside the kernel's core: closed-form paths of several half-lives, and the trust that mixes them.

The arms are the frozen model (if trust is on) and, for each half-life, the core with that path; without a closed-form
path there is one arm, the core. Arms are judged on every micro-batch before any of them learns from it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.config import LearnerConfig
from model.kernel.batch import MicroBatch
from model.kernel.closed_path import ClosedPath, information
from model.kernel.kernel import Kernel
from model.kernel.trust import Trust


class Arms:
    """Learns the straight path and the trust of `kernel`, and keeps both of its buffers current."""

    def __init__(self, kernel: Kernel, config: LearnerConfig) -> None:
        self.kernel = kernel
        lives = config.path_half_lives if kernel.path_width else ()
        self.paths = [ClosedPath(kernel.path_width, life, config.path_prior) for life in lives]
        self._frozen = int(kernel.config.use_trust)
        self._trust = Trust(self._frozen + max(1, len(lives)), config.trust_half_life, config.trust_rate)
        self.believed = torch.zeros(kernel.path_width)
        """The paths' mean weights where the core is believed, `(p,)`: the core learns what they leave over."""
        self._settle()

    @property
    def trust(self) -> float:
        """Share of the kernel in what is served, 0 to 1."""
        return float(1 - self._trust.weights[0]) if self._frozen else 1.0

    @property
    def parameters(self) -> int:
        """Weights of the paths and of the arms."""
        return sum(len(path.mean) for path in self.paths) + len(self._trust.weights)

    def meet(self, batch: MicroBatch) -> Tensor | None:
        """What the paths see of a batch that is about to be learned, `(n, p)`; None if there are none."""
        if self.kernel.path_features is not None:
            self.kernel.path_features.meet(batch.x, batch.live)
        return self.kernel.features(batch.x, batch.live)

    def learn(self, core: Tensor, batch: MicroBatch, features: Tensor | None, enough: Tensor | None) -> None:
        """Judges the arms by the core's logit from before learning, `(n,)`, then the paths learn."""
        frozen, label, weight = batch.frozen_logit, batch.label, batch.weight
        arms = [frozen] if self._frozen else []
        if features is None:
            arms.append(core)
        else:
            straight = [path.logit(features) for path in self.paths]
            arms += [core + (one if enough is None else one * enough) for one in straight]
        if len(arms) > 1:
            self._trust.judge(torch.stack(arms).double(), label.double(), weight.double())
        if features is not None:
            # One product serves all paths: where they disagree, they differ in a curvature that hardly differs.
            added = information(features, frozen + features @ self.believed, weight)
            for path in self.paths:
                path.learn(features, frozen, label, weight, added)
        self._settle()

    def _settle(self) -> None:
        self.kernel.trust.fill_(self.trust)
        if self.paths:
            weights = self._trust.weights[self._frozen :].float()
            self.believed = (weights / weights.sum()) @ torch.stack([path.mean for path in self.paths])
            self.kernel.path.copy_(self.trust * self.believed)

    def state(self) -> dict[str, Tensor]:
        """All of it, for a snapshot."""
        found = {"arm_weights": self._trust.weights}
        if self.kernel.path_features is not None:
            found |= {f"path_{name}": tensor for name, tensor in self.kernel.path_features.state_dict().items()}
        for place, path in enumerate(self.paths):
            found |= {f"{name}.{place}": tensor for name, tensor in path.state().items()}
        return found

    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self._trust.weights = state["arm_weights"].clone()
        if self.kernel.path_features is not None:
            for name, tensor in self.kernel.path_features.state_dict().items():
                tensor.copy_(state[f"path_{name}"])
        for place, path in enumerate(self.paths):
            path.load({name: state[f"{name}.{place}"] for name in path.state()})
        self._settle()

"""What stands beside the kernel's core: closed-form paths of several half-lives, and the trust that mixes them.

The arms are the frozen model (if trust is on) and, for each half-life, the core with that path; without a closed-form
path there is one arm, the core. Arms are judged on every micro-batch before any of them learns from it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.batch import MicroBatch
from model.closed_path import ClosedPath, path_features
from model.config import LearnerConfig
from model.kernel import Kernel
from model.trust import Trust


class Arms:
    """Learns the straight path and the trust of `kernel`, and keeps both of its buffers current."""

    def __init__(self, kernel: Kernel, config: LearnerConfig) -> None:
        self.kernel = kernel
        lives = config.path_half_lives if kernel.path_width else ()
        self.paths = [ClosedPath(kernel.path_width, life, config.path_prior) for life in lives]
        self._frozen = int(kernel.config.use_trust)
        self._trust = Trust(self._frozen + max(1, len(lives)), config.trust_half_life, config.trust_rate)
        self._believed = torch.zeros(kernel.path_width)
        """The paths' mean weights where the core is believed, `(p,)`."""
        self._settle()

    @property
    def trust(self) -> float:
        """Share of the kernel in what is served, 0 to 1."""
        return float(1 - self._trust.weights[0]) if self._frozen else 1.0

    @property
    def parameters(self) -> int:
        """Weights of the paths and of the arms."""
        return sum(len(path.mean) for path in self.paths) + len(self._trust.weights)

    def learn(self, core: Tensor, batch: MicroBatch, enough: Tensor | None) -> None:
        """Judges the arms by the core's logit from before learning, `(n,)`, then the paths learn."""
        core, frozen, label = core.double(), batch.frozen_logit.double(), batch.label.double()
        weight = batch.weight.double()
        features = self._features(batch) if self.paths else None
        arms = [frozen] if self._frozen else []
        if features is None:
            arms.append(core)
        else:
            straight = [path.logit(features) for path in self.paths]
            arms += [core + (one if enough is None else one * enough) for one in straight]
        if len(arms) > 1:
            self._trust.judge(torch.stack(arms), label, weight)
        if features is not None:
            for path in self.paths:
                path.learn(features, frozen, label, weight)
        self._settle()

    def offset(self, batch: MicroBatch) -> Tensor | None:
        """What the closed-form paths add where the core is believed, `(n,)`: the core learns what they leave over."""
        return self.kernel.straight(batch.x, batch.live, self._believed) if self.paths else None

    def _features(self, batch: MicroBatch) -> Tensor:
        return path_features(batch.x, batch.live if self.kernel.config.use_live else None)

    def _settle(self) -> None:
        self.kernel.trust.fill_(self.trust)
        if self.paths:
            weights = self._trust.weights[self._frozen :]
            mean = (weights / weights.sum()) @ torch.stack([path.mean for path in self.paths])
            self._believed = mean.float()
            self.kernel.path.copy_(self.trust * mean)

    def state(self) -> dict[str, Tensor]:
        """All of it, for a snapshot."""
        found = {"arm_weights": self._trust.weights}
        for place, path in enumerate(self.paths):
            found |= {f"path_mean.{place}": path.mean, f"path_precision.{place}": path.precision}
        return found

    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self._trust.weights = state["arm_weights"].clone()
        for place, path in enumerate(self.paths):
            path.mean = state[f"path_mean.{place}"].clone()
            path.precision = state[f"path_precision.{place}"].clone()
        self._settle()

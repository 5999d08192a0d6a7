"""Conure: prune, retrain, freeze, reuse (Yuan et al., SIGIR 2021, arXiv 2009.13724, figure 5)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from model.backbone.foundation import FoundationBackbone
from model.backbone.levels import Level, level_of
from model.backbone.methods.method import OwnParameters, SceneMethod, dense_matrices, home_of, key_of
from model.backbone.schema import BackboneRefused

_KEPT = 0.3
"""Share of the free weights that a task keeps; the authors' configuration frees 70 %."""


class Reused(nn.Module):
    """A weight matrix shared by tasks: the old network's values plus the changes that earlier tasks and this one
    kept."""

    open: Tensor

    def __init__(self, change: nn.Parameter, before: Sequence[nn.Parameter], open_: Tensor) -> None:
        super().__init__()
        self.change, self.before = change, nn.ParameterList(before)
        self.register_buffer("open", open_, persistent=False)

    def forward(self, matrix: Tensor) -> Tensor:
        """The matrix as this task uses it; only open weights are trained."""
        for change in self.before:
            matrix = matrix + change
        return matrix + self.change * self.open


class SceneConure(SceneMethod):
    """Changes to those weights that no earlier task kept; layer norms, biases and the output layer are the scene's own.

    The old network keeps its largest weights, and a scene keeps its largest changes; both are frozen, and later scenes
    read them. A change that a scene does not keep is undone, so retraining needs no data of older scenes, and older
    scenes answer bit for bit as before. The paper instead sets pruned weights to zero and retrains the old task, which
    changes its answers once.
    """

    def __init__(
        self, network: FoundationBackbone, frozen: Collection[Level], earlier: Sequence[SceneMethod] = ()
    ) -> None:
        super().__init__()
        self._earlier = tuple(method for method in earlier if isinstance(method, SceneConure))
        own = _own_names(network, frozen)
        matrices = {
            key_of(name): matrix
            for name, matrix in (*dense_matrices(network, frozen), *_convolutions(network, frozen))
            if name not in own
        }
        self.changes = nn.ParameterDict({key: torch.zeros_like(matrix) for key, matrix in matrices.items()})
        self.own = OwnParameters.of(network, own)
        self._open = {key: self._free(key, matrix) for key, matrix in matrices.items()}
        if matrices and not any(free.any() for free in self._open.values()):
            raise BackboneRefused(
                f"conure: {len(self._earlier)} scenes have taken all weights that the backbone can spare: take another "
                "--method, or pretrain again"
            )

    def _before(self, key: str) -> list[nn.Parameter]:
        return [method.changes[key] for method in self._earlier if key in method.changes]

    def _free(self, key: str, matrix: Tensor) -> Tensor:
        """Mask of the weights that no task has kept."""
        taken = _largest(matrix.abs(), torch.ones_like(matrix, dtype=torch.bool))
        for change in self._before(key):
            taken = taken | (change != 0)
        return ~taken

    def learned(self) -> int:
        """See `SceneMethod`; of the shared weights only those that are open to this scene count."""
        open_to_it = sum(int(free.sum()) for free in self._open.values())
        return open_to_it + sum(parameter.numel() for parameter in self.own.parameters())

    @torch.no_grad()
    def prune(self) -> bool:
        """Keeps the largest changes of each matrix and closes the others; only kept changes are trained further."""
        for key, change in self.changes.items():
            kept = _largest(change.abs(), self._open[key]) & (change != 0)
            self._open[key].copy_(kept)
            change.mul_(kept)
        return True

    def put_into(self, network: FoundationBackbone) -> None:
        """See `SceneMethod`."""
        self.own.put_into(network)
        for key, change in self.changes.items():
            # A frozen change is already zero wherever the scene kept nothing, and a loaded one has no mask of its own.
            open_ = self._open[key] if change.requires_grad else torch.ones_like(change, dtype=torch.bool)
            register_parametrization(*home_of(network, key), Reused(change, self._before(key), open_))


def _largest(size: Tensor, among: Tensor) -> Tensor:
    """Mask of the `_KEPT` share of largest values of `size` among those where `among` is true; ties keep the first."""
    count = int(_KEPT * int(among.sum()))
    order = torch.argsort(torch.where(among, size, -1.0).flatten(), descending=True, stable=True)
    chosen = torch.zeros(size.numel(), dtype=torch.bool)
    chosen[order[:count]] = True
    return chosen.view_as(size)


def _convolutions(network: FoundationBackbone, frozen: Collection[Level]) -> list[tuple[str, Tensor]]:
    return [
        (f"{path}.weight", module.weight)
        for path, module in network.named_modules()
        if isinstance(module, nn.Conv1d) and level_of(path) not in frozen
    ]


def _own_names(network: FoundationBackbone, frozen: Collection[Level]) -> list[str]:
    """Names of the biases, norms and output layers, which each scene has for itself."""
    outputs = {
        f"{path}.weight"
        for path, module in network.named_modules()
        if path.startswith("towers.") and isinstance(module, nn.Linear) and module.out_features == 1
    }
    return [
        name
        for name, parameter in network.named_parameters()
        if level_of(name) not in frozen and (parameter.dim() == 1 or name.endswith("second_bias") or name in outputs)
    ]

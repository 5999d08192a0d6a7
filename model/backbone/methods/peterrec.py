"""PeterRec: patches inside the sequence encoder (Yuan et al., SIGIR 2020, arXiv 2001.04253, figure 3)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from model.backbone.foundation import FoundationBackbone
from model.backbone.levels import Level, level_of
from model.backbone.methods.bottleneck import Bottleneck
from model.backbone.methods.method import OwnParameters, SceneMethod, key_of
from model.backbone.methods.sublayers import SECOND_NORMS, added, by_row, encoder_layers
from model.backbone.schema import BackboneRefused

_SHARE = 4
"""The layer's width divided by the patch's width, as in the authors' code."""


class ScenePeterRec(SceneMethod):
    """A patch for each layer of the sequence encoder; the second layer norms and the towers are copied for the scene.

    Serial: `h + W_up act(W_down h)` of the layer's output `h`. Parallel: `layer(x) + W_up act(W_down x)`. The paper
    patches dilated convolutions; patching attention and recurrent layers alike is ours, as is starting the patch at
    zero and the head as a copy of the old towers.
    """

    def __init__(
        self,
        network: FoundationBackbone,
        frozen: Collection[Level],
        earlier: Sequence[SceneMethod] = (),
        *,
        parallel: bool = False,
    ) -> None:
        super().__init__()
        layers = encoder_layers(network)
        if not layers:
            raise BackboneRefused(
                "peterrec patches the layers of a sequence encoder, but this backbone was pretrained with "
                f"backbone.user_encoder = {network.config.user_encoder!r}, which has none: take one with gru4rec, "
                "nextitnet, sasrec or bert4rec, or another --method"
            )
        if "L1" in frozen:
            raise BackboneRefused("peterrec patches the sequence encoder, which is L1: leave L1 out of --freeze")
        self.parallel = parallel
        self.patches = nn.ModuleDict(
            {
                key_of(path): Bottleneck(1, width, max(1, width // _SHARE), width, torch.default_generator)
                for path, width in layers.items()
            }
        )
        norms = [
            name for name, _ in network.named_parameters() if name.startswith("user_encoder.sequence.")
            and name.rpartition(".")[0].endswith(SECOND_NORMS)
        ]  # fmt: skip
        head = [name for name, _ in network.named_parameters() if name.startswith("towers.")]
        self.own = OwnParameters.of(network, [name for name in (*norms, *head) if level_of(name) not in frozen])

    def put_into(self, network: FoundationBackbone) -> None:
        """See `SceneMethod`."""
        self.own.put_into(network)
        for key, patch in self.patches.items():
            hook = partial(_beside if self.parallel else _behind, patch)
            network.get_submodule(key.replace("/", ".")).register_forward_hook(hook)


def _behind(patch: nn.Module, module: nn.Module, _: tuple[Any, ...], output: Any) -> Any:
    return added(module, output, by_row(module, output[0] if isinstance(module, nn.GRU) else output, patch))


def _beside(patch: nn.Module, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
    taken = inputs[0]
    if isinstance(module, nn.Conv1d):
        taken = taken[..., taken.shape[-1] - output.shape[-1] :]  # without the padding before the oldest event
    return added(module, output, by_row(module, taken, patch))

"""Houlsby adapters: a bottleneck after each layer (Houlsby et al., ICML 2019, arXiv 1902.00751, 2.1).

In a sequence encoder they are placed as in AdapterRec (Fu et al., WSDM 2024, arXiv 2305.15036): after the attention and
after the point-wise network of each block, before the residual sum.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from model.backbone.foundation import FoundationBackbone
from model.backbone.levels import Level, level_of
from model.backbone.methods.bottleneck import Bottleneck
from model.backbone.methods.method import SceneMethod, key_of
from model.backbone.methods.sublayers import added, by_row, encoder_layers
from model.backbone.trunk import Experts

_WIDTH = 4


class SceneHoulsby(SceneMethod):
    """`h + W_up act(W_down h)` after each layer that outputs a vector, layers of the sequence encoder included.

    Layers that output weights or a logit get none. The paper also trains the layer norms; here they stay frozen (ours).
    """

    def __init__(
        self, network: FoundationBackbone, frozen: Collection[Level], earlier: Sequence[SceneMethod] = ()
    ) -> None:
        super().__init__()
        self.adapters = nn.ModuleDict()
        for path, (copies, width) in _layers(network).items():
            if level_of(path) not in frozen:
                self.adapters[key_of(path)] = Bottleneck(copies, width, _WIDTH, width, torch.default_generator)

    def put_into(self, network: FoundationBackbone) -> None:
        """See `SceneMethod`."""
        for key, adapter in self.adapters.items():
            network.get_submodule(key.replace("/", ".")).register_forward_hook(partial(_behind, adapter))


def _layers(network: FoundationBackbone) -> dict[str, tuple[int, int]]:
    """The layers that get an adapter, each with its number of copies and output width."""
    aspects = (
        "user_id",
        "item_id",
        "item_text",
        "user_sparse.map",
        "item_sparse.map",
        "user_encoder.map",
        "query.text",
        "query.word_map",
    )
    found = {path: (1, width) for path, width in encoder_layers(network).items()}
    for path, module in network.named_modules():
        if isinstance(module, Experts):
            found[path] = (module.experts, module.second.shape[2])
        elif isinstance(module, nn.Linear) and (path in (*aspects, "domain_layer.map") or _hidden(path)):
            found[path] = (1, module.out_features)
    return found


def _hidden(path: str) -> bool:
    """Whether `path` is the hidden layer of experts or of a tower."""
    return path.endswith(".first_layers") or (path.startswith("towers.") and path.endswith(".0"))


def _behind(adapter: nn.Module, module: nn.Module, _: tuple[Any, ...], output: Any) -> Any:
    return added(module, output, by_row(module, output[0] if isinstance(module, nn.GRU) else output, adapter))

"""The forward pass from `x` to the click logit, layer by layer, with hooks for small networks."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from model.backbone.foundation import FoundationBackbone

LAYERS = ("first", "second", "tower_in", "tower_out")
"""The linear layers after `x`: both layers of every expert, both layers of the click tower."""


class Plugs(nn.Module):
    """Hooks that change the forward pass; the base class changes nothing. `E` experts, `n` examples."""

    def begin(self, domain: Tensor) -> None:
        """Called once per batch with the facet indices `(n, 3)`, before any layer."""

    def representation(self, x: Tensor) -> Tensor:
        """Replaces `x`, `(n, d)`."""
        return x

    def linear(self, layer: str, inputs: Tensor, out: Tensor) -> Tensor:
        """Replaces a layer's output before its activation; `(E, n, w)` for experts, `(n, w)` for the tower."""
        del layer, inputs
        return out

    def block(self, layer: str, out: Tensor) -> Tensor:
        """Replaces a layer's output after its activation."""
        del layer
        return out


class ClickPath:
    """Trunk and click tower of a backbone; with `Plugs()` it gives `predict(x, domain)[:, 0]`."""

    def __init__(self, backbone: FoundationBackbone) -> None:
        self._backbone = backbone
        self._trunk = backbone.experts
        experts = self._trunk.experts
        self.experts, self.width, self.hidden = experts.first.shape
        tower = cast("nn.Sequential", backbone.towers.nets[0])
        tower_in, tower_out = cast("nn.Linear", tower[0]), cast("nn.Linear", tower[-1])
        self._tower_in, self._tower_out = tower_in, tower_out
        self.shapes: dict[str, tuple[int, int, int]] = {
            "first": (self.experts, self.width, self.hidden),
            "second": (self.experts, self.hidden, int(experts.second.shape[2])),
            "tower_in": (1, tower_in.in_features, tower_in.out_features),
            "tower_out": (1, tower_out.in_features, tower_out.out_features),
        }
        """Copies, width in and width out of each layer."""

    def weight(self, layer: str) -> Tensor:
        """The matrix of a layer, `(E, in, out)` or `(in, out)`."""
        experts = self._trunk.experts
        if layer in ("first", "second"):
            matrix: Tensor = getattr(experts, layer)
            return matrix
        return (self._tower_in if layer == "tower_in" else self._tower_out).weight.T

    def __call__(self, x: Tensor, domain: Tensor, plugs: Plugs) -> Tensor:
        """Click logits `(n,)` of `x` `(n, d)` in domains `(n, 3)`."""
        plugs.begin(domain)
        first_order = self._backbone.first_order_logit(x)
        x = plugs.representation(x)
        experts = self._trunk.experts
        wide = x.expand(self.experts, *x.shape)
        hidden = plugs.linear("first", wide, torch.baddbmm(experts.first_bias, wide, experts.first))
        hidden = plugs.block("first", torch.relu(hidden))
        out = plugs.linear("second", hidden, torch.baddbmm(experts.second_bias, hidden, experts.second))
        out = plugs.block("second", torch.relu(out))
        mixed = self._mix(x, self._backbone.domain_embedding(domain), out)
        inner = plugs.linear("tower_in", mixed, self._tower_in(mixed))
        inner = plugs.block("tower_in", torch.relu(inner))
        logit = plugs.linear("tower_out", inner, self._tower_out(inner))[:, 0]
        return logit if first_order is None else logit + first_order[:, 0]

    def _mix(self, x: Tensor, vector: Tensor, out: Tensor) -> Tensor:
        """The click task's mixture of experts, `(n, w)`."""
        trunk = self._trunk
        if trunk.kind == "mlp":
            return out[0]
        seen = out[: 2 * trunk.count] if trunk.kind == "ple" else out
        weight = torch.softmax(trunk.gates[0](torch.cat([x, vector], dim=-1)), dim=-1)
        return (seen * weight.T[..., None]).sum(0)

"""Where adapters and patches act: the layers of a sequence encoder, and how rows are made of what a layer gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from model.backbone.encoders.attention import SelfAttention
from model.backbone.foundation import FoundationBackbone
from model.backbone.trunk import Experts

SECOND_NORMS = ("between", "second", "norms.1")
"""Last names of each block's second layer norm in `sasrec`, `bert4rec` and `nextitnet`."""


def encoder_layers(network: FoundationBackbone) -> dict[str, int]:
    """The layers of the sequence encoder with the width that they give; empty where there is none, or no layer in it.

    They are attention and point-wise network of each block, each convolution, or the recurrent layer.
    """
    if network.user_encoder is None:
        return {}
    return {
        f"user_encoder.sequence.{name}": network.config.history_width
        for name, module in network.user_encoder.sequence.named_modules()
        if isinstance(module, SelfAttention | nn.Conv1d | nn.GRU) or name.endswith(".network")
    }


def by_row(module: nn.Module, values: Any, change: Callable[[Tensor], Tensor]) -> Tensor:
    """What `change` makes of `values`, in their shape: values that `module` takes or gives, width by width."""
    rows = cast(Tensor, values)
    if isinstance(module, nn.Conv1d):
        rows = rows.transpose(1, 2)
    # The experts stand side by side, and each has a bottleneck of its own.
    out = change(rows) if isinstance(module, Experts) else change(rows.flatten(0, -2)).view(*rows.shape[:-1], -1)
    return out.transpose(1, 2) if isinstance(module, nn.Conv1d) else out


def added(module: nn.Module, output: Any, addition: Tensor) -> Any:
    """The output of a layer with something added; a recurrent layer also gives a state, which nobody reads."""
    return (output[0] + addition, output[1]) if isinstance(module, nn.GRU) else output + addition

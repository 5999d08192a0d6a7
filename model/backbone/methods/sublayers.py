"""The layers of a sequence encoder that adapters and patches change, and the shape of those layers' outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from model.backbone.encoders.attention import SelfAttention
from model.backbone.foundation import FoundationBackbone
from model.backbone.trunk import Experts

SECOND_NORMS = ("between", "second", "norms.1")
"""Name suffixes of each block's second layer norm in `sasrec`, `bert4rec` and `nextitnet`."""


def encoder_layers(network: FoundationBackbone) -> dict[str, int]:
    """The layers of the sequence encoder with their output widths; empty if the backbone has no such encoder.

    These are the attention and point-wise network of each block, each convolution, or the recurrent layer.
    """
    if network.user_encoder is None:
        return {}
    return {
        f"user_encoder.sequence.{name}": network.config.history_width
        for name, module in network.user_encoder.sequence.named_modules()
        if isinstance(module, SelfAttention | nn.Conv1d | nn.GRU) or name.endswith(".network")
    }


def by_row(module: nn.Module, values: Any, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Applies `change` to an input or output of `module` as rows of features, and returns the result in that shape."""
    rows = cast(Tensor, values)
    if isinstance(module, nn.Conv1d):
        rows = rows.transpose(1, 2)
    # Experts are computed side by side, and each has a bottleneck of its own.
    out = change(rows) if isinstance(module, Experts) else change(rows.flatten(0, -2)).view(*rows.shape[:-1], -1)
    return out.transpose(1, 2) if isinstance(module, nn.Conv1d) else out


def added(module: nn.Module, output: Any, addition: Tensor) -> Any:
    """A layer's output plus `addition`; a recurrent layer's second output, its state, is passed on unchanged."""
    return (output[0] + addition, output[1]) if isinstance(module, nn.GRU) else output + addition

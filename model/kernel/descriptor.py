"""The descriptor `v+` of the shown item: its field values, and the frozen model's logit (ours).

`v` is the multi-hot vector of the values of the crossed fields, centred over the catalogue, each column divided by the
root of its deviation, all scaled to a mean square of 1; more than `MAX_WIDTH` columns are summed under random signs.
`v+ = [clip(v, 3), clip(f, 4)]`, with `f` the standardised logit of the frozen model (docs/decisions/0082).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

MAX_WIDTH = 32
_CLIP, _CLIP_LOGIT = 3.0, 4.0


@dataclass(frozen=True)
class Descriptor:
    """A map of an item's values `(n, S)` and frozen logit `(n,)` to `v+` `(n, m + 1)`, fixed with the backbone."""

    table: Tensor
    """Contribution of each value, float32 `(V + 1, m)`; the last row, for an empty slot, is zero."""
    shift: Tensor
    """Mean descriptor over the catalogue, float32 `(m,)`."""
    logit_mean: float
    logit_deviation: float

    @staticmethod
    def fit(multi_hot: NDArray[np.float64], logit: NDArray[np.float32]) -> Descriptor:
        """Fits the descriptor to a catalogue's multi-hot values `(items, V)` and the frozen model's logits `(n,)`."""
        deviation = multi_hot.std(axis=0) if len(multi_hot) else np.zeros(multi_hot.shape[1])
        varying = np.flatnonzero(deviation > 0)
        table = np.zeros((multi_hot.shape[1] + 1, len(varying)))
        table[varying, np.arange(len(varying))] = 1.0 / np.sqrt(deviation[varying])
        if len(varying) > MAX_WIDTH:
            table = table @ _signs(len(varying), MAX_WIDTH)
        described = multi_hot @ table[:-1]
        shift = described.mean(axis=0) if len(described) else np.zeros(table.shape[1])
        square = ((described - shift) ** 2).mean() if table.shape[1] else 1.0
        scale = 1.0 / np.sqrt(square)
        return Descriptor(
            table=torch.from_numpy((table * scale).astype(np.float32)),
            shift=torch.from_numpy((shift * scale).astype(np.float32)),
            logit_mean=float(logit.mean(dtype=np.float64)),
            logit_deviation=max(float(logit.std(dtype=np.float64)), 1e-3),
        )

    def __call__(self, values: Tensor, frozen_logit: Tensor) -> Tensor:
        """`v+`, float32 `(n, m + 1)`, of values int16 `(n, S)` and logits `(n,)`."""
        slots = values.long().remainder(len(self.table))  # an empty slot is -1, which becomes the last row, zeros
        described = embedding_bag(slots, self.table, mode="sum") - self.shift if slots.numel() else -self.shift
        level = ((frozen_logit - self.logit_mean) / self.logit_deviation).clamp(-_CLIP_LOGIT, _CLIP_LOGIT)
        clipped = described.clamp(-_CLIP, _CLIP).expand(len(values), -1)
        return torch.cat([clipped, level[:, None]], dim=1)

    @property
    def width(self) -> int:
        """Width m + 1 of `v+`."""
        return self.table.shape[1] + 1


def _signs(size: int, count: int) -> NDArray[np.float64]:
    """`(size, count)` random signs times `size^-1/2`, made from raw bits so that every machine draws the same ones."""
    words = -(-size * count // 64)
    bits = np.unpackbits(np.frombuffer(np.random.PCG64([size, count]).random_raw(words), "u1"))
    return np.asarray((bits[: size * count].reshape(size, count) * 2.0 - 1.0) / np.sqrt(size))

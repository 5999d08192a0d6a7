"""Names of a kernel's weights."""

from __future__ import annotations

import torch
from torch import Tensor

from model.kernel.start import KernelStart


def feature_names(start: KernelStart) -> list[str]:
    """Names of the `p` features of a kernel, in the order of its weights (`model.kernel.features`)."""
    shown = [f"shown {column}" for column in range(start.descriptor.width - 1)] + ["frozen logit shown"]
    known = [f"known {row}" for row in range(start.features.compression.rank)]
    direct = ["frozen logit", "1", *start.live_names[start.residuals :], *start.live_names[: start.residuals]]
    return [*direct, *shown, *(f"{row} x {column}" for row in known for column in shown)]


def largest(names: list[str], values: Tensor, count: int) -> list[tuple[int, str, float]]:
    """Index, name and value of the `count` values with the largest magnitude among `values` `(p,)`."""
    order = torch.argsort(values.abs(), descending=True)[:count].tolist()
    return [(index, names[index], float(values[index])) for index in order]

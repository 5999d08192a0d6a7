"""What a kernel learns from: micro-batches of labelled examples as they were served."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from model.kernel.features import KernelInputs
from model.kernel.start import KernelStart


@dataclass(frozen=True)
class MicroBatch:
    """Labelled examples as they were served: everything the learner needs, nothing from the embedding tables.

    `n` examples; `d` width of the representation; `k` number of live features.
    """

    x: Tensor
    """Fused representation, float32 `(n, d)` (already rounded to float16 once, as it was logged)."""
    live: Tensor
    """Live features at serving time, T then counters, float32 `(n, k)`."""
    values: Tensor
    """Values of the items' crossed fields, int16 `(n, S)`; -1 is an empty slot."""
    domain: Tensor
    """Facet indices, int64 `(n, 3)`."""
    label: Tensor
    """Click, or conversion of a click where those are learned, float32 0/1 `(n,)`."""
    frozen_logit: Tensor
    """Logit of the frozen arm at serving time, float32 `(n,)`."""
    live_logit: Tensor
    """Logit of the live arm at serving time, float32 `(n,)`."""
    weight: Tensor
    """Sample weight, float32 `(n,)`."""
    time: Tensor
    """Event time of the impression (not of its label), seconds since the epoch, float64 `(n,)`."""

    def __len__(self) -> int:
        return int(self.label.shape[0])

    def select(self, index: Tensor) -> MicroBatch:
        """The examples of `index` (int64 or bool)."""
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @staticmethod
    def concat(batches: Sequence[MicroBatch]) -> MicroBatch:
        """Concatenates `batches` in order. Raises ValueError for an empty sequence."""
        if not batches:
            raise ValueError("cannot join zero micro-batches")
        return MicroBatch(**{f.name: torch.cat([getattr(b, f.name) for b in batches]) for f in fields(MicroBatch)})

    @property
    def inputs(self) -> KernelInputs:
        """The inputs of the kernel for these examples."""
        return KernelInputs(self.x, self.live, self.values, self.frozen_logit)

    def check(self, start: KernelStart, domain_sizes: tuple[int, int, int]) -> None:
        """Raises ValueError, naming the field, for a wrong shape, a value out of range, or non-finite values."""
        n = len(self)
        if n == 0:
            raise ValueError("micro-batch: no examples")
        widths = {"x": (n, start.width), "live": (n, len(start.live_names)), "domain": (n, 3)}
        widths["values"] = (n, self.values.shape[-1])  # as many slots as items have: each is looked up by itself
        for field in fields(self):
            value: Tensor = getattr(self, field.name)
            shape = widths.get(field.name, (n,))
            if tuple(value.shape) != shape:
                raise ValueError(f"micro-batch: {field.name} has shape {tuple(value.shape)}, expected {shape}")
            # One sum is quicker than a test per value; a sum of finite values may overflow, so look closer then.
            if not math.isfinite(float(value.sum())) and not bool(torch.isfinite(value).all()):
                raise ValueError(f"micro-batch: {field.name} has non-finite values")
        if not 0 <= float(self.label.min()) <= float(self.label.max()) <= 1:
            raise ValueError("micro-batch: label has a value outside 0 to 1")
        if float(self.weight.min()) < 0:
            raise ValueError("micro-batch: weight has a value below 0")
        highest = self.domain.amax(0).tolist()
        if int(self.domain.min()) < 0 or any(h >= size for h, size in zip(highest, domain_sizes, strict=True)):
            raise ValueError(f"micro-batch: domain has an index outside {domain_sizes}")
        if self.values.numel() and not -1 <= int(self.values.min()) <= int(self.values.max()) < start.values:
            raise ValueError(f"micro-batch: values has a number outside -1 to {start.values - 1}")

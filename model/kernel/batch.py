"""What a kernel learns from: micro-batches of labelled examples as they were served."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class MicroBatch:
    """Labelled examples as they were served: everything the learner needs, nothing from the embedding tables.

    `n` examples; `d` width of the representation; `k` number of live features.
    """

    x: Tensor
    """Fused representation, float32 `(n, d)` (already rounded to float16 once, as it was logged)."""
    live: Tensor
    """Live drift features T at serving time, float32 `(n, k)`."""
    domain: Tensor
    """Facet indices, int64 `(n, 3)`."""
    label: Tensor
    """Click, float32 0/1 `(n,)`."""
    conversion: Tensor
    """Conversion, float32 0/1 `(n,)`."""
    frozen_logit: Tensor
    """Logit of the frozen arm at serving time, float32 `(n,)`."""
    live_logit: Tensor
    """Logit of the live arm at serving time, float32 `(n,)`."""
    weight: Tensor
    """Sample weight, float32 `(n,)`."""
    time: Tensor
    """Event time of the impression (not of its label), seconds since the epoch, float64 `(n,)`."""
    origin: tuple[object, ...] = ()
    """Opaque references to the records the examples came from, one per request, set by who built the batch."""

    def __len__(self) -> int:
        return int(self.label.shape[0])

    def select(self, index: Tensor) -> MicroBatch:
        """The examples of `index` (int64 or bool)."""
        picked = {f.name: getattr(self, f.name)[index] for f in fields(self) if f.name != "origin"}
        return replace(self, **picked)

    @staticmethod
    def concat(batches: Sequence[MicroBatch]) -> MicroBatch:
        """All examples of `batches`, in order. Raises ValueError for an empty sequence."""
        if not batches:
            raise ValueError("cannot join zero micro-batches")
        names = [f.name for f in fields(MicroBatch) if f.name != "origin"]
        joined = {name: torch.cat([getattr(b, name) for b in batches]) for name in names}
        return MicroBatch(**joined, origin=tuple(o for b in batches for o in b.origin))

    def check(self, width: int, live_width: int, domain_sizes: tuple[int, int, int]) -> None:
        """Raises ValueError, naming the field, for a wrong shape, a domain index out of range, or non-finite values."""
        n = len(self)
        if n == 0:
            raise ValueError("micro-batch: no examples")
        widths = {"x": (n, width), "live": (n, live_width), "domain": (n, 3)}
        for field in fields(self):
            if field.name == "origin":
                continue
            value: Tensor = getattr(self, field.name)
            shape = widths.get(field.name, (n,))
            if tuple(value.shape) != shape:
                raise ValueError(f"micro-batch: {field.name} has shape {tuple(value.shape)}, expected {shape}")
            # One sum is quicker than a test per value; a sum of finite values may overflow, so look closer then.
            if not math.isfinite(float(value.sum())) and not bool(torch.isfinite(value).all()):
                raise ValueError(f"micro-batch: {field.name} has non-finite values")
        highest = self.domain.amax(0).tolist()
        if int(self.domain.min()) < 0 or any(h >= size for h, size in zip(highest, domain_sizes, strict=True)):
            raise ValueError(f"micro-batch: domain has an index outside {domain_sizes}")

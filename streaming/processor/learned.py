"""What learning gives: a kernel for the scorers, and what one micro-batch did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.kernel.batch import MicroBatch
from model.kernel.kernel import Kernel
from model.kernel.learner import LearnReport
from model.kernel.record import KernelInfo


@dataclass(frozen=True)
class PublishedKernel:
    """A kernel for the scorers, with its card."""

    kernel: Kernel
    info: KernelInfo
    depends_on: Mapping[str, Any]
    """What its weights depend on (`model.kernel.compatibility`)."""


@dataclass(frozen=True)
class Learned:
    """What one micro-batch did."""

    batch: MicroBatch
    request: NDArray[np.int64]
    """Which request of the batch each example belongs to, `(n,)`, rising from 0."""
    report: LearnReport
    published: PublishedKernel | None
    """The kernel published behind it, if one was due."""

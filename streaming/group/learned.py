"""Results of learning: a kernel for the scorers, and the report on one micro-batch."""

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
    """A kernel for the scorers with its metadata."""

    kernel: Kernel
    info: KernelInfo
    depends_on: Mapping[str, Any]
    """The settings that its weights depend on (`model.kernel.compatibility`)."""


@dataclass(frozen=True)
class Learned:
    """The result of one micro-batch."""

    batch: MicroBatch
    request: NDArray[np.int64]
    """Index of the request of each example, `(n,)`, rising from 0."""
    report: LearnReport
    published: PublishedKernel | None
    """The kernel published after it, if one was due."""

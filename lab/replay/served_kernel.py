"""The kernel that a replay serves, published as the processor does it but without a least interval."""

from __future__ import annotations

from typing import Any

from model.gate.gate import Gate
from model.gate.guarded import Step
from model.kernel.kernel import Kernel
from model.kernel.start import KernelStart


class ServedKernel:
    """The served kernel and its version, at first the identity as version 0."""

    def __init__(self, start: KernelStart) -> None:
        self.kernel, self.version = Kernel.identity(start), 0

    def publish(self, kernel: Kernel) -> None:
        """Serves another kernel under the next version."""
        self.kernel, self.version = kernel, self.version + 1

    def follow(self, step: Step[Any], gate: Gate[Any], candidate: Kernel) -> None:
        """Serves what the gate wants instead of a harmful kernel, or the candidate if it learned and is not held."""
        if step.served is not None:
            self.publish(step.served)
            gate.harm.serve(self.version)
        elif not gate.held and any(batch.batch is not None for batch in step.batches):
            gate.harm.published()
            self.publish(candidate)

"""The information-aware adaptive kernel (IAK, arXiv 2501.14268) as it is served: one vector of weights.

    logit = frozen + (w - e_f)'phi,    phi = direct and matching features (`model.kernel.features`)

The kernel of the paper is an encoder, which compresses what the backbone knows, and a decoder, which matches it with
what the domain's events teach. Here compression (`model.kernel.compression`) and matching (`model.kernel.posterior`)
have closed solutions, so a published kernel is the mean of a posterior, mixed by trust. The closed form is ours
(docs/decisions/0082, 0083, 0084); the paper's own form is an adapter of the lab.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from model.kernel.features import BilinearForm, KernelInputs
from model.kernel.start import KernelStart


@dataclass(frozen=True)
class Kernel:
    """All that one kernel group has learned, ready to serve. Never changed: the learner makes a new one."""

    start: KernelStart
    weights: Tensor
    """w, float32 `(p,)`."""
    conversion: Kernel | None = None
    """The kernel of the conversion task, which travels with it; None for a backbone of clicks alone."""

    @staticmethod
    def identity(start: KernelStart) -> Kernel:
        """A kernel that has learned nothing, of no task: the live arm equals the frozen arm, bit for bit."""
        conversion = None if start.conversion is None else Kernel.identity(start.conversion)
        return Kernel(start, start.features.identity(), conversion)

    def logit(self, inputs: KernelInputs) -> Tensor:
        """Logits of its task by the live arm, float32 `(n,)`: the one function that scorer and learner share."""
        return self.start.features.logit(inputs, self._form)

    @cached_property
    def _form(self) -> BilinearForm:
        return self.start.features.form(self.weights)

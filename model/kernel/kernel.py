"""The information-aware adaptive kernel (IAK, arXiv 2501.14268) as it is served: one vector of weights.

    logit = frozen + (w - e_f)'phi,    phi = direct and matching features (`model.kernel.features`)

The paper's kernel is an encoder, which compresses the backbone's knowledge, and a decoder, which matches it with what a
domain's events teach. Here compression (`model.kernel.compression`) and matching (`model.kernel.posterior`) have closed
solutions, so a published kernel is a mixture of posterior means, weighted by trust. The closed form is ours
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
    """Everything that one kernel group has learned, ready to serve. Immutable: the learner makes new ones."""

    start: KernelStart
    weights: Tensor
    """w, float32 `(p,)`."""
    conversion: Kernel | None = None
    """The kernel of the conversion task, published in the same record; None for a backbone of clicks alone."""

    @staticmethod
    def identity(start: KernelStart) -> Kernel:
        """The kernel of a new group, which has learned nothing: its live arm equals the frozen arm, bit for bit."""
        conversion = None if start.conversion is None else Kernel.identity(start.conversion)
        return Kernel(start, start.features.identity(), conversion)

    def logit(self, inputs: KernelInputs) -> Tensor:
        """Logits of the live arm, float32 `(n,)`. Scorer and learner both use this function."""
        return self.start.features.logit(inputs, self._form)

    @cached_property
    def _form(self) -> BilinearForm:
        return self.start.features.form(self.weights)

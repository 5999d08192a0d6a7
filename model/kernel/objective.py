"""The objective of the kernel's core: task loss and the two information terms.

The paper (arXiv 2501.14268; known) minimises the information bottleneck `-I(G^; T) + beta I(G^; G)` in two phases.
`G` is the general knowledge, `T` that of the task, `Gbar` the compressed and `G^` the matched knowledge:

    compression   Gbar = argmin KL(Gbar, T)
    matching      G^   = argmin KL(Gbar + f(T; Gbar), T)

Which terms enter the loss is not public. Both phases are trained at once here, in three readings (docs/decisions/0030):

    D   L = BCE                                                            (ours: structure alone compresses)
    A   L = BCE + beta KL(q(Gbar|x) || N(0, I))                            (inferred: the variational bottleneck)
    B   L = BCE + l1 KL(q(Gbar|x) || N(m_k, t_k^2)) + l2 KL(q(G^|x) || N(m_k, t_k^2))     (inferred: literal)

BCE bounds `-I(G^; T)` and the first KL term bounds `I(G^; G)`. The core computes the divergences (`model.kernel.core`).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from model.config import LearnerConfig
from model.kernel.batch import MicroBatch
from model.kernel.kernel import KernelOutput
from model.losses import entire_space_loss


class Objective(NamedTuple):
    """The loss and its parts, nats per example."""

    total: Tensor
    """What is minimised, a scalar with a gradient; without the proximal term."""
    task: float
    """Weighted log loss of clicks and, where the backbone knows them, conversions."""
    compression: float
    """`KL(q(Gbar|x) || prior)`; 0 for reading D."""
    matching: float
    """`KL(q(G^|x) || N(m_k, t_k^2))`; 0 but for reading B."""


def objective(
    output: KernelOutput, path: Tensor | None, batch: MicroBatch, *, reading: str, config: LearnerConfig,
    step: int, has_conversion: bool,
) -> Objective:  # fmt: skip
    """The objective of step number `step` (from 1) on a batch of `n` examples.

    `path` is the closed-form path's logit, `(n,)`, or None. It is part of the prediction, though no gradient flows into
    it: a core that does not know of it fits the same error a second time, and the sum overshoots (docs/decisions/0063).
    """
    ctr, cvr = output.logits.unbind(1)
    if path is not None:
        ctr = ctr + path
    task = entire_space_loss((ctr, cvr), batch.label, batch.conversion, has_conversion, batch.weight)
    if reading == "D":
        return Objective(task, float(task.detach()), 0.0, 0.0)
    # The terms have trivial minima (an encoder that says nothing; a domain's Gaussian that follows the encoder), so the
    # task signal gets a head start (ours).
    warm_up = min(1.0, step / max(1, config.warmup_steps))
    compression, matching = output.compression.mean(), output.matching.mean()
    compression_weight = config.beta if reading == "A" else config.l1
    total = task + warm_up * (compression_weight * compression + config.l2 * matching)
    return Objective(total, float(task.detach()), float(compression.detach()), float(matching.detach()))

"""The objective: log loss of clicks and the two information terms.

The paper (known) minimises the information bottleneck `-I(G^; T) + beta I(G^; G)` in two phases. `G` is the general
knowledge, `T` that of the task, `Gbar` the compressed and `G^` the matched knowledge:

    compression   Gbar = argmin KL(Gbar, T)
    matching      G^   = argmin KL(Gbar + f(T; Gbar), T)

Which terms enter the loss is not public. Both phases are trained at once here, in three readings:

    D   L = BCE                                                            (ours: structure alone compresses)
    A   L = BCE + beta KL(q(Gbar|x) || N(0, I))                            (inferred: the variational bottleneck)
    B   L = BCE + l1 KL(q(Gbar|x) || N(m_k, t_k^2)) + l2 KL(q(G^|x) || N(m_k, t_k^2))     (inferred: literal)

BCE bounds `-I(G^; T)` and the first KL term bounds `I(G^; G)`.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lab.adapters.paper.kernel import PaperOutput
from lab.adapters.paper.settings import PaperSettings


def paper_loss(output: PaperOutput, label: Tensor, weight: Tensor, settings: PaperSettings, step: int) -> Tensor:
    """The loss at step `step` (from 1), nats per example; labels and sample weights are `(n,)`."""
    task = binary_cross_entropy_with_logits(output.logit, label, weight)
    if settings.reading == "D":
        return task
    # The terms have trivial minima (an encoder without information; domain Gaussians that follow the encoder), so they
    # are weighted up only after the click loss has had a start (ours).
    warm_up = min(1.0, step / max(1, settings.warmup_steps))
    compression_weight = settings.beta if settings.reading == "A" else settings.l1
    information = compression_weight * output.compression.mean() + settings.l2 * output.matching.mean()
    return task + warm_up * information

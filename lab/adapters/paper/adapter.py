"""The paper's kernel as an adapter of the lab: it learns with the steps that every gradient adapter has."""

from __future__ import annotations

import torch
from torch import Tensor

from lab.adapters.base import AdapterContext, StreamBatch
from lab.adapters.gradient import GradientAdapter, Recent
from lab.adapters.paper.batches import DomainBatches
from lab.adapters.paper.kernel import PaperKernel, PaperOutput
from lab.adapters.paper.objective import paper_loss
from lab.adapters.paper.settings import PaperSettings


def paper(context: AdapterContext, rate: float, *, settings: PaperSettings) -> GradientAdapter:
    """The kernel of `settings`; with a bank it rehearses batches of one domain each, else whole recent ones."""
    kernel = PaperKernel(settings, context.backbone.width, context.domain_sizes, context.seed)
    noise = None if settings.reading == "D" else torch.Generator().manual_seed(context.seed)
    steps = 0

    def forward(batch: StreamBatch, noise: torch.Generator | None) -> PaperOutput:
        output: PaperOutput = kernel(context.backbone, batch.micro.x, batch.micro.domain, noise)
        return output

    def logits(batch: StreamBatch) -> Tensor:
        return forward(batch, None).logit

    def loss(batch: StreamBatch) -> Tensor:
        nonlocal steps
        steps += 1
        micro = batch.micro
        return paper_loss(forward(batch, noise), micro.label, micro.weight, settings, steps)

    training = context.training
    recent: Recent | None = None
    if settings.bank_facets:
        recent = DomainBatches(training.rehearsal_batches, training.batch_examples, kernel.domain_index)
    groups = [([*kernel.parameters()], rate)]
    return GradientAdapter(groups, logits, training, context.seed, loss=loss, recent=recent)

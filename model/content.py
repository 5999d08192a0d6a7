"""Content vectors: the few numbers per item that the live features of users and domains are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from model.backbone import FoundationBackbone
from model.dataset import ProfileTable


def catalogue_aspects(model: FoundationBackbone, profiles: ProfileTable) -> Tensor:
    """Aspects of all items side by side, `(items, a * d)`."""
    items = torch.arange(len(profiles.item))
    first = torch.zeros_like(items)
    domain = torch.zeros(len(items), 3, dtype=torch.int64)
    return model.item_aspects(profiles.batch(first, items, domain)).flatten(1)


@torch.no_grad()
def fit_content(model: FoundationBackbone, profiles: ProfileTable) -> None:
    """Principal components of the catalogue's aspects, scaled so that the mean squared length is 1.

    An item that pretraining has not seen is placed by its text and sparse fields.
    """
    flat = catalogue_aspects(model, profiles)
    mean = flat.mean(0)
    _, _, directions = torch.linalg.svd(flat - mean, full_matrices=False)
    found = directions[: model.content_width].T
    basis = torch.zeros(flat.shape[1], model.content_width)
    basis[:, : found.shape[1]] = found
    length = ((flat - mean) @ basis).square().sum(1).mean().sqrt().clamp(min=1e-6)
    model.content_mean.copy_(mean)
    model.content_map.copy_(basis / length)

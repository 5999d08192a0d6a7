"""Batches of a live stream for tests of adapters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from lab.adapters import AdapterContext, StreamBatch
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import round_representation
from model.kernel.batch import MicroBatch
from tests.model.conftest import LIVE, SIZES

MakeBackbone = Callable[..., FoundationBackbone]


def batch_of(context: AdapterContext, n: int = 200, seed: int = 0) -> StreamBatch:
    """Clicks that depend on the first live feature and on the item, which the frozen model does not know."""
    rng = np.random.default_rng(seed)
    user = torch.from_numpy(rng.integers(31, size=n))
    item = torch.from_numpy(rng.integers(40, size=n))
    domain = torch.from_numpy(np.stack([rng.integers(size, size=n) for size in SIZES], axis=1))
    live = torch.from_numpy(rng.normal(size=(n, LIVE)).astype(np.float32))
    with torch.no_grad():
        x = round_representation(context.backbone.represent(context.profiles.batch(user, item, domain)))
        frozen = context.backbone.predict(x, domain)[:, 0]
    values = torch.stack([item % 2, 2 + item // 2 % 2, torch.full_like(item, -1)], dim=1).to(torch.int16)
    label = ((item % 2 == 0) ^ (live[:, 0] > 1.5)).float()
    ones = torch.ones(n)
    time = torch.arange(n, dtype=torch.float64)
    micro = MicroBatch(x, live, values, domain, label, frozen, frozen, ones, time)
    return StreamBatch(micro, user, item)

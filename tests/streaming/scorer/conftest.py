"""A scoring core of small real models."""

from __future__ import annotations

import pytest

from model.backbone.foundation import FoundationBackbone
from streaming.scorer.active_kernels import ActiveKernels
from streaming.scorer.core import Scorer
from tests.streaming.scorer.scoring_parts import (
    make_backbone,
    make_kernels,
    make_scorer,
    packed,
    record,
)


@pytest.fixture(scope="module")
def backbone() -> FoundationBackbone:
    """Small and untrained."""
    return make_backbone()


@pytest.fixture
def kernels(backbone: FoundationBackbone) -> ActiveKernels:
    """The kernel of version 5."""
    kernels = make_kernels(backbone)
    kernels.take([record(packed(backbone, 5))])
    return kernels


@pytest.fixture
def scorer(backbone: FoundationBackbone, kernels: ActiveKernels) -> Scorer:
    """Answers with that backbone and kernel."""
    return make_scorer(backbone, kernels)

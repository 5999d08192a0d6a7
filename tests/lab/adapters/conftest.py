"""Adapters are tried on the same small backbone as the model."""

from __future__ import annotations

import pytest

from lab.adapters import AdapterContext
from lab.adapters.training import GradientTraining
from model.backbone.dataset import ProfileTable
from model.config import LearnerConfig
from model.encoding.profile import UserFeatures
from tests.lab.adapters.batches import MakeBackbone
from tests.model.conftest import SIZES, World, backbone, kernel_start, make_backbone, world

__all__ = ["backbone", "make_backbone", "world"]


@pytest.fixture
def context(world: World, make_backbone: MakeBackbone) -> AdapterContext:
    users = [*world.users, UserFeatures("unknown", {"job": "cook"})]
    backbone = make_backbone()
    return AdapterContext(
        backbone=backbone,
        profiles=ProfileTable(world.encoder, users, world.items),
        history=world.examples,
        start=kernel_start(backbone.width),
        domain_sizes=SIZES,
        learner=LearnerConfig(),
        training=GradientTraining(rehearsal_batches=4, rehearsal_steps=1),
        seed=3,
    )

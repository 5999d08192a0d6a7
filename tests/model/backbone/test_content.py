"""Content vectors: fitted to residuals where there are users enough, components where there are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.backbone.content import fit_content
from model.backbone.dataset import ProfileTable
from model.backbone.examples import Examples
from model.backbone.foundation import FoundationBackbone
from model.backbone.shape import BackboneShape
from tests.model.conftest import SIZES, SMALL, World


@pytest.fixture(scope="module")
def tastes() -> tuple[World, Examples]:
    """Each user likes one of the four first genres, whatever else the model knows."""
    world = World(users=80, examples=3_200)
    ex, rng = world.examples, np.random.default_rng(0)
    likes = rng.integers(4, size=80)[ex.user] == ex.item % 4
    label = (rng.random(len(ex)) < np.where(likes, 0.9, 0.2)).astype(np.float32)
    return world, replace(ex, label=label)


def fitted(world: World, examples: Examples, steps: int) -> tuple[FoundationBackbone, dict[str, object]]:
    torch.manual_seed(0)
    model = FoundationBackbone(SMALL, BackboneShape.of(world.encoder, SIZES), world.encoder.digest)
    profiles = ProfileTable(world.encoder, world.users, world.items)
    report = fit_content(model, profiles, examples, seed=1, steps=steps)
    return model, vars(report)


def test_content_fitted_to_residuals_predicts_clicks_of_new_users(tastes: tuple[World, Examples]) -> None:
    _, report = fitted(*tastes, steps=150)
    assert report["method"] == "taste"
    assert float(str(report["log_loss"])) < float(str(report["log_loss_without"])) - 0.02


def test_the_same_seed_gives_the_same_content(tastes: tuple[World, Examples]) -> None:
    one, _ = fitted(*tastes, steps=60)
    two, _ = fitted(*tastes, steps=60)
    assert torch.equal(one.content_map, two.content_map)


@pytest.mark.parametrize("steps", [0, 50])
def test_too_few_users_or_no_steps_use_principal_components_and_report_it(world: World, steps: int) -> None:
    model, report = fitted(world, world.examples, steps)
    assert report["method"] == "components"
    assert bool(torch.isfinite(model.content_map).all())
    assert float(model.content_map.abs().max()) > 0

"""Conversions in pretraining: what examples must hold, and what the entire-space towers predict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.backbone.checkpoint import load_backbone, save_backbone
from model.backbone.dataset import ProfileTable, TrainingData
from model.backbone.examples import Examples
from model.backbone.foundation import FoundationBackbone
from model.backbone.levels import LEVELS
from model.backbone.pretrain import pretrain, pretrain_backbone
from model.backbone.schema import BackboneRefused
from model.backbone.trainer import auc_ctcvr, logits_of
from model.backbone.training_state import ResumeError
from model.backbone.transfer import fine_tune
from model.config import PretrainConfig
from tests.model.conftest import SCHEMA, SIZES, SMALL, World

QUICK = PretrainConfig(epochs=1, batch_size=64)
Make = Callable[..., FoundationBackbone]
BOTH = SMALL.model_copy(update={"tasks": "ctr_ctcvr"})


def without(examples: Examples, how: str) -> Examples:
    return replace(examples, conversion=None if how == "unknown" else np.zeros_like(examples.label))


@pytest.mark.parametrize("how", ["unknown", "none"])
def test_examples_without_conversions_refuse_the_task_by_its_key(how: str, world: World) -> None:
    with pytest.raises(BackboneRefused, match=r"backbone\.tasks"):
        pretrain_backbone(
            without(world.examples, how), world.users, world.items, world.encoder, domain_sizes=SIZES, backbone=BOTH,
            config=QUICK,
        )  # fmt: skip


def test_a_backbone_with_conversions_is_not_tuned_on_examples_without_them(make_backbone: Make, world: World) -> None:
    examples = without(world.examples, "unknown")
    domain = examples.domain.copy()
    domain[:, 0] = SIZES[0]
    with pytest.raises(BackboneRefused, match=r"backbone\.tasks"):
        fine_tune(
            make_backbone(tasks="ctr_ctcvr"), replace(examples, domain=domain), world.users, world.items,
            world.encoder, frozen=LEVELS[:1], config=QUICK, click_rate=0.3,
        )  # fmt: skip


def test_a_backbone_with_conversions_is_saved_and_opened_with_its_second_column(
    make_backbone: Make, world: World, tmp_path: Path
) -> None:
    backbone = make_backbone(tasks="ctr_ctcvr")
    save_backbone(tmp_path, backbone, world.encoder, SCHEMA, {})
    opened = load_backbone(tmp_path, SCHEMA).backbone
    data = TrainingData.of(world.examples, ProfileTable(world.encoder, world.users, world.items))
    logits = logits_of(opened, data)
    assert opened.has_conversion
    np.testing.assert_array_equal(logits, logits_of(backbone, data))
    assert logits[:, 1].std() > 0
    assert 0.5 < auc_ctcvr(opened, data, logits) < 1
    assert np.isnan(auc_ctcvr(make_backbone(), data, logits))


def test_a_run_is_not_resumed_with_other_conversions(world: World, tmp_path: Path) -> None:
    class Interrupted(Exception):
        """Stands for a kill."""

    def stop(at: object) -> None:
        if getattr(at, "epoch", 0) == 2:
            raise Interrupted

    def run(examples: Examples, **more: object) -> None:
        pretrain(
            examples, world.users, world.items, world.encoder, domain_sizes=SIZES, backbone=BOTH,
            config=PretrainConfig(epochs=2, batch_size=64), resume=tmp_path / "state", **more,  # type: ignore[arg-type]
        )  # fmt: skip

    with pytest.raises(Interrupted):
        run(world.examples, progress=stop)
    with pytest.raises(ResumeError):
        run(replace(world.examples, conversion=world.examples.label))

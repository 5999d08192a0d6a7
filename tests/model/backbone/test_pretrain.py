"""Pretraining: by time, reproducible, resumable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.backbone.dataset import ProfileTable, TooFewExamplesError, TrainingData
from model.backbone.examples import Examples
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import fingerprint, round_representation
from model.backbone.pretrain import PretrainReport, TrainingProgress, pretrain
from model.backbone.trainer import logits_of
from model.backbone.training_state import ResumeError
from model.config import BackboneConfig, PretrainConfig
from model.encoding.features import FeatureEncoder
from model.evaluation import log_loss, sigmoid
from tests.model.conftest import SIZES, SMALL, TEXT, World

QUICK = PretrainConfig(epochs=2, batch_size=64)


def run(
    world: World, config: PretrainConfig = QUICK, backbone: BackboneConfig = SMALL, **more: Any
) -> tuple[FoundationBackbone, PretrainReport]:
    return pretrain(
        world.examples, world.users, world.items, world.encoder, domain_sizes=SIZES, backbone=backbone, config=config,
        **more,
    )  # fmt: skip


def test_pretraining_learns_the_effects_of_the_simulated_data() -> None:
    world = World(examples=4_000)
    _, report = run(world, PretrainConfig(epochs=16, batch_size=64, learning_rate=5e-3, patience=16))
    assert report.validation_auc > 0.62
    assert report.best_epoch <= report.epochs <= 16


def test_same_seed_same_backbone_whatever_the_global_random_state(world: World) -> None:
    torch.manual_seed(1)
    first, _ = run(world)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second, _ = run(world)
    assert first.fingerprint == second.fingerprint
    assert torch.equal(torch.get_rng_state(), state)
    other, _ = run(world, QUICK.model_copy(update={"seed": 8}))
    assert other.fingerprint != first.fingerprint


def test_the_latest_examples_are_the_validation_set(world: World) -> None:
    _, report = run(world, QUICK.model_copy(update={"validation_share": 0.25}))
    assert (report.train_examples, report.validation_examples) == (450, 150)
    assert report.window == (0.0, 599.0)


def test_report_has_an_auc_per_facet_value(world: World) -> None:
    _, report = run(world)
    assert {name.split("=")[0] for name in report.validation_auc_by_domain} == {"scene", "region", "period"}


def test_progress_increases_and_never_exceeds_its_total(world: World) -> None:
    seen: list[TrainingProgress] = []
    run(world, progress=seen.append)
    assert [at.step for at in seen] == list(range(1, len(seen) + 1))
    assert all(at.step <= at.steps for at in seen)


def test_early_stopping_keeps_the_best_epoch(world: World) -> None:
    _, report = run(world, PretrainConfig(epochs=12, batch_size=64, learning_rate=0.05, patience=1))
    losses = [row["log_loss"] for row in report.history]
    assert report.epochs < 12
    assert losses[report.best_epoch - 1] == min(losses) == report.validation_log_loss


class Interrupted(Exception):
    """Stands for a kill."""


def test_an_interrupted_run_resumes_bit_for_bit(world: World, tmp_path: Path) -> None:
    config = PretrainConfig(epochs=3, batch_size=64, patience=3)
    whole, _ = run(world, config)
    file = tmp_path / "state.safetensors"

    def stop(at: TrainingProgress) -> None:
        if at.epoch == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(world, config, progress=stop, resume=file)
    assert file.exists()
    again, report = run(world, config, resume=file)
    assert again.fingerprint == whole.fingerprint
    assert report.resumed_epoch == 2
    assert not file.exists()


def test_an_interrupted_refit_resumes_bit_for_bit(world: World, tmp_path: Path) -> None:
    config = PretrainConfig(epochs=3, batch_size=64, patience=3)
    seen: list[TrainingProgress] = []
    whole, report = run(world, config, progress=seen.append)
    last = seen[-1].step
    file = tmp_path / "state.safetensors"

    def stop(at: TrainingProgress) -> None:
        if at.step == last:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(world, config, progress=stop, resume=file)
    again, resumed = run(world, config, resume=file)
    assert again.fingerprint == whole.fingerprint
    assert resumed.history == report.history
    assert not list(tmp_path.iterdir())


def test_the_refit_learns_from_the_validation_set(world: World) -> None:
    last = len(world.examples) - 1
    label = world.examples.label.copy()
    label[last] = 1 - label[last]
    changed = World()
    changed.examples = replace(world.examples, label=label)
    config = QUICK.model_copy(update={"epochs": 1})  # one pass is the best of one, whatever validates it
    before, report = run(world, config)
    after, _ = run(changed, config)
    assert report.refit_examples == len(world.examples)
    assert fingerprint(after.user_id) != fingerprint(before.user_id)
    unfitted = config.model_copy(update={"refit": False})
    (first, alone), (second, _) = run(world, unfitted), run(changed, unfitted)
    assert alone.refit_examples == 0
    assert fingerprint(first.user_id) == fingerprint(second.user_id)


def edge(world: World, name: str) -> tuple[Examples, BackboneConfig]:
    """Examples that many a model cannot be trained on."""
    examples = world.examples
    few, zeros = examples.select(slice(0, 50)), np.zeros(len(examples), dtype=np.int64)
    return {
        "fifty rows": (few, SMALL),
        "two rows": (examples.select(slice(0, 2)), SMALL),
        "all clicks": (replace(examples, label=np.ones_like(examples.label)), SMALL),
        "no clicks": (replace(examples, label=np.zeros_like(examples.label)), SMALL),
        "one user": (replace(examples, user=zeros), SMALL),
        "one item": (replace(examples, item=zeros), SMALL),
    }[name]


@pytest.mark.parametrize("name", ["fifty rows", "two rows", "all clicks", "no clicks", "one user", "one item"])
def test_degenerate_data_give_a_backbone_with_finite_logits(world: World, name: str) -> None:
    examples, config = edge(world, name)
    share = PretrainConfig(epochs=2, batch_size=64, validation_share=0.3)
    backbone, _ = pretrain(
        examples, world.users, world.items, world.encoder, domain_sizes=SIZES, backbone=config, config=share
    )
    batch = ProfileTable(world.encoder, world.users, world.items).batch(
        torch.from_numpy(examples.user), torch.from_numpy(examples.item), torch.from_numpy(examples.domain)
    )
    x = round_representation(backbone.represent(batch))
    logit = backbone.predict(x, batch.domain)[:, 0]
    assert torch.isfinite(x).all() and torch.isfinite(logit).all()
    if name in {"all clicks", "no clicks"}:
        assert bool(((logit > 1) if name == "all clicks" else (logit < -1)).all())


def test_data_without_fields_give_a_backbone_with_finite_logits(world: World) -> None:
    users, items = [replace(u, fields={}) for u in world.users], [replace(i, fields={}) for i in world.items]
    encoder = FeatureEncoder.fit(users, items, user_fields=(), item_fields=(), text_width=TEXT)
    backbone, _ = pretrain(world.examples, users, items, encoder, domain_sizes=SIZES, backbone=SMALL, config=QUICK)
    batch = encoder.batch(encoder.encode_user(users[0]), [encoder.encode_item(item) for item in items], (1, 1, 1))
    assert torch.isfinite(backbone.predict(backbone.represent(batch), batch.domain)).all()


def test_the_tower_share_is_chosen_at_the_end() -> None:
    world = World()
    shuffled = np.random.default_rng(0).permutation(world.examples.label)  # all that a tower learns of them is wrong
    world.examples = replace(world.examples, label=shuffled)
    config = PretrainConfig(epochs=2, batch_size=64, learning_rate=0.03, refit=False)
    backbone, report = run(world, config)
    assert 0.2 <= report.tower_share < 1
    data = TrainingData.of(world.examples, ProfileTable(world.encoder, world.users, world.items))
    held_out = data.part(report.train_examples, len(data))
    loss = log_loss(held_out.label.numpy(), sigmoid(logits_of(backbone, held_out)[:, 0]))
    assert loss == pytest.approx(report.validation_log_loss, abs=1e-6)
    assert report.validation_log_loss == min(row["log_loss"] for row in report.history)
    _, plain = run(world, config, SMALL.model_copy(update={"target_statistics": False}))
    assert plain.tower_share == 1


@pytest.mark.parametrize("target_statistics", [True, False])
def test_the_click_logit_is_a_function_of_representation_and_domain(world: World, target_statistics: bool) -> None:
    backbone, _ = run(world, backbone=SMALL.model_copy(update={"target_statistics": target_statistics}))
    x = torch.randn(4, backbone.width)
    domain = torch.zeros(4, 3, dtype=torch.int64)
    moved = x.clone()
    moved[:, -1] += 0.5
    assert torch.equal(backbone.predict(x, domain), backbone.predict(x.clone(), domain.clone()))
    assert not torch.equal(backbone.predict(moved, domain), backbone.predict(x, domain))
    assert (backbone.statistics is not None) == target_statistics == (backbone.first_order is not None)


def test_state_of_another_run_or_garbage_is_refused_with_a_remedy(world: World, tmp_path: Path) -> None:
    file = tmp_path / "state.safetensors"

    def stop(at: TrainingProgress) -> None:
        if at.epoch == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(world, progress=stop, resume=file)
    with pytest.raises(ResumeError, match="delete it"):
        run(world, QUICK.model_copy(update={"seed": 99}), resume=file)
    file.write_bytes(b"no state")
    with pytest.raises(ResumeError, match="delete it"):
        run(world, resume=file)


def test_too_few_examples_are_refused(world: World) -> None:
    one = world.examples.select(slice(0, 1))
    with pytest.raises(TooFewExamplesError, match=r"too few .*validation_share 0.1 none would be left to validate"):
        pretrain(one, world.users, world.items, world.encoder, domain_sizes=SIZES, backbone=SMALL, config=QUICK)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"time": np.arange(600.0)[::-1].copy()}, "time is not in order"),
        ({"label": np.full(600, np.nan, dtype=np.float32)}, "label has non-finite"),
        ({"domain": np.zeros((600, 2), dtype=np.int64)}, "domain has shape"),
        ({"user": np.zeros(5, dtype=np.int64)}, "user has 5 rows"),
    ],
)
def test_broken_examples_are_refused_by_the_name_of_the_field(world: World, change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(world.examples, **change)

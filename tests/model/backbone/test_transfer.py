"""A new scene from an old backbone: what grows, what stays to the last bit, and what learns."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.backbone.dataset import ProfileTable, TrainingData
from model.backbone.examples import Examples
from model.backbone.foundation import FoundationBackbone
from model.backbone.grown import grow
from model.backbone.interface import fingerprint
from model.backbone.levels import LEVELS, Level
from model.backbone.trainer import logits_of
from model.backbone.transfer import Transferred, fine_tune, trainable
from model.config import PretrainConfig
from model.encoding.features import FeatureEncoder
from model.encoding.profile import ItemFeatures, UserFeatures
from model.evaluation import log_loss, sigmoid
from tests.model.conftest import SIZES, TEXT, World

QUICK = PretrainConfig(epochs=2, batch_size=64, learning_rate=1e-2)
NEW_SCENE = SIZES[0]
MakeBackbone = Callable[..., FoundationBackbone]


class NewScene:
    """The simulated data with a new scene: two users, an item, a job and a genre that did not occur before."""

    def __init__(self, world: World) -> None:
        self.users = [
            *world.users,
            UserFeatures("newcomer", {"age": 33.0, "job": "cook"}),
            UserFeatures("another", {"age": 41.0, "job": "baker"}),
        ]
        item = ItemFeatures("i-new", {"genres": ["comedy", "war"]}, np.full(TEXT, 0.2, dtype=np.float32))
        self.items = [*world.items, item]
        old, rng = world.examples.select(slice(0, 300)), np.random.default_rng(5)
        domain = old.domain.copy()
        domain[:, 0] = NEW_SCENE
        user, shown = old.user.copy(), old.item.copy()
        user[rng.random(300) < 0.2] = len(world.users)
        user[rng.random(300) < 0.1] = len(world.users) + 1
        shown[rng.random(300) < 0.1] = len(world.items)
        self.examples = replace(old, domain=domain, user=user, item=shown, label=1 - old.label)


@pytest.fixture(scope="module")
def scene(world: World) -> NewScene:
    return NewScene(world)


def tuned(
    backbone: FoundationBackbone,
    world: World,
    scene: NewScene,
    frozen: Collection[Level],
    config: PretrainConfig = QUICK,
) -> Transferred:
    return fine_tune(
        backbone, scene.examples, scene.users, scene.items, world.encoder,
        frozen=frozen, config=config, click_rate=float(world.examples.label.mean()),
    )  # fmt: skip


def logits(
    backbone: FoundationBackbone, encoder: FeatureEncoder, world: World, examples: Examples
) -> NDArray[np.float32]:
    profiles = ProfileTable(encoder, world.users, world.items)
    return logits_of(backbone, TrainingData.of(examples, profiles, backbone.config.history))


@pytest.mark.parametrize("changes", [{}, {"target_statistics": False}, {"domain_map": "full", "gating": "cls"},
                                     {"user_encoder": "sasrec"}, {"trunk": "ple"}, {"item_aspects": ("text",)},
                                     {"item_aspects": ("id",)}, {"trunk": "dssm"}])  # fmt: skip
def test_with_all_levels_frozen_old_users_items_and_domains_are_bit_identical(
    make_backbone: MakeBackbone, world: World, scene: NewScene, changes: dict[str, object]
) -> None:
    backbone = make_backbone(**changes)
    result = tuned(backbone, world, scene, LEVELS)
    before = logits(backbone, world.encoder, world, world.examples)
    np.testing.assert_array_equal(before, logits(result.backbone, result.encoder, world, world.examples))
    assert result.report.trained_parameters == result.report.best_epoch == 0


@pytest.mark.parametrize("frozen", [levels for n in range(5) for levels in combinations(LEVELS, n)])
def test_fine_tuning_changes_exactly_the_unfrozen_levels(
    backbone: FoundationBackbone, world: World, scene: NewScene, frozen: tuple[Level, ...]
) -> None:
    before = fingerprint(backbone)
    result = tuned(backbone, world, scene, frozen)
    assert fingerprint(backbone) == before
    start = grow(backbone, world.encoder, result.encoder).model
    free = {id(parameter) for parameter in trainable(result.backbone, frozen)}
    moved = {
        id(parameter)
        for (_, parameter), (_, old) in zip(result.backbone.named_parameters(), start.named_parameters(), strict=True)
        if not torch.equal(parameter, old)
    }
    assert moved <= free
    assert bool(moved) == bool(free) == (result.report.trained_parameters > 0) == (result.report.best_epoch > 0)
    assert torch.equal(result.backbone.content_map, backbone.content_map)


def test_every_parameter_belongs_to_one_level(backbone: FoundationBackbone) -> None:
    of_level = [{id(p) for p in trainable(backbone, [other for other in LEVELS if other != level])} for level in LEVELS]
    assert all(of_level)
    assert set.union(*of_level) == {id(parameter) for parameter in backbone.parameters()}
    assert sum(map(len, of_level)) == len(list(backbone.parameters()))


def test_old_rows_of_extended_tables_are_unchanged_and_new_rows_start_as_unknown(
    backbone: FoundationBackbone, world: World, scene: NewScene
) -> None:
    result = tuned(backbone, world, scene, ("L0", "L1"))
    old, new = backbone.state_dict(), result.backbone.state_dict()
    for table, grown in (("user_table", 2), ("item_table", 1)):
        before, after = old[f"{table}.weight"], new[f"{table}.weight"]
        assert torch.equal(after[: len(before)], before)
        assert torch.equal(after[len(before) :], before[:1].expand(grown, -1))
    assert result.encoder.users.row("u3") == world.encoder.users.row("u3")
    assert result.encoder.users.row("newcomer") == len(world.encoder.users) + 1
    for side, name, value in (("user", "job", "smith"), ("item", "genres", "crime")):
        table, rows = f"{side}_sparse.table.weight", []
        for encoder in (world.encoder, result.encoder):
            fields = getattr(encoder, f"{side}_fields")
            at = next(n for n, field in enumerate(fields) if field.spec.name == name)
            rows.append(sum(field.rows for field in fields[:at]) + fields[at].vocabulary.row(value))
        assert torch.equal(old[table][rows[0]], new[table][rows[1]])


def test_statistics_of_old_values_are_unchanged_and_new_values_are_counted(
    backbone: FoundationBackbone, world: World, scene: NewScene
) -> None:
    result = tuned(backbone, world, scene, LEVELS)
    before, after = backbone.statistics, result.backbone.statistics
    assert before is not None
    assert after is not None
    users = len(world.encoder.users)
    user, level = after.get_buffer("user"), after.get_buffer("scene")
    assert torch.equal(user[:, :users], before.get_buffer("user"))
    assert (user[:, users:] != 0).all()
    shown = scene.examples
    more_than_usual = shown.label[shown.user == len(world.users)].mean() > world.examples.label.mean()
    row = result.encoder.users.row("newcomer")
    assert bool(user[0, row] > 0) == more_than_usual
    assert bool(level[0, NEW_SCENE] > 0) == (shown.label.mean() > world.examples.label.mean())
    assert torch.equal(level[:, :NEW_SCENE], before.get_buffer("scene"))


def test_a_new_scene_starts_from_the_mean_of_the_declared_ones(backbone: FoundationBackbone, world: World) -> None:
    once = grow(backbone, world.encoder, world.encoder).model
    with torch.no_grad():
        once.get_parameter("domain_embedding.tables.0.weight")[-1] += 1.0
    twice = grow(once.freeze(), world.encoder, world.encoder)
    table = twice.model.state_dict()["domain_embedding.tables.0.weight"]
    assert twice.scene == NEW_SCENE + 1
    torch.testing.assert_close(table[-1], table[1:-1].mean(0))


def test_fine_tuning_learns_the_new_scene(backbone: FoundationBackbone, world: World, scene: NewScene) -> None:
    config = QUICK.model_copy(update={"epochs": 12})
    losses = []
    levels: list[tuple[Level, ...]] = [LEVELS, ("L0", "L1")]
    for frozen in levels:
        result = tuned(backbone, world, scene, frozen, config)
        profiles = ProfileTable(result.encoder, scene.users, scene.items)
        scores = logits_of(result.backbone, TrainingData.of(scene.examples, profiles))[:, 0]
        losses.append(log_loss(scene.examples.label, sigmoid(scores)))
    assert losses[1] < losses[0] - 0.05


def test_a_fine_tuning_that_only_worsens_validation_is_discarded(
    backbone: FoundationBackbone, world: World, scene: NewScene
) -> None:
    ruinous = QUICK.model_copy(update={"learning_rate": 30.0})
    tables: tuple[Level, ...] = ("L0",)
    result = tuned(backbone, world, scene, tables, ruinous)
    assert result.report.best_epoch == 0
    expected = tuned(backbone, world, scene, LEVELS, ruinous)
    assert result.backbone.fingerprint == expected.backbone.fingerprint


def test_examples_of_another_scene_are_refused(backbone: FoundationBackbone, world: World) -> None:
    with pytest.raises(ValueError, match="examples of another scene"):
        fine_tune(
            backbone, world.examples, world.users, world.items, world.encoder,
            frozen=LEVELS, config=QUICK, click_rate=0.3,
        )  # fmt: skip


def test_an_encoder_of_another_backbone_is_refused(backbone: FoundationBackbone, scene: NewScene) -> None:
    other = World(seed=1, users=7)
    with pytest.raises(ValueError, match="encoder"):
        fine_tune(
            backbone, scene.examples, scene.users, scene.items, other.encoder,
            frozen=LEVELS, config=QUICK, click_rate=0.3,
        )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(old=st.sets(st.text(max_size=3)), new=st.sets(st.text(max_size=3)))
def test_old_values_keep_their_rows_with_any_new_values(old: set[str], new: set[str]) -> None:
    users = [UserFeatures(name, {}) for name in sorted(old)]
    before = FeatureEncoder.fit(users, [], user_fields=(), item_fields=(), text_width=1)
    after = before.grown([UserFeatures(name, {}) for name in sorted(new)], [])
    assert all(after.users.row(name) == before.users.row(name) for name in old)
    assert sorted(after.users.values) == sorted(old | new)
    assert after.grown(users, []).digest == after.digest

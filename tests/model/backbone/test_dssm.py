"""Two towers: what each of their vectors depends on, how they meet, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import binary_cross_entropy_with_logits as log_loss

from model.backbone.checkpoint import load_backbone, save_backbone
from model.backbone.dataset import ProfileTable
from model.backbone.dssm import DssmBackbone
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import TwoTowers
from model.backbone.pretrain import pretrain
from model.config import BackboneConfig, LearnerConfig, PretrainConfig
from model.encoding.features import FeatureBatch
from model.kernel.learner import Learner
from tests.model.conftest import SCHEMA, SIZES, SMALL, World, kernel_start, micro_batch

Make = Callable[..., FoundationBackbone]
CHANGES = [{}, {"target_statistics": False}, {"item_aspects": ("text",)}, {"gating": "plain", "domain_map": "full"}]


@pytest.fixture(params=CHANGES, ids=str, name="dssm")
def _dssm(request: pytest.FixtureRequest, make_backbone: Make) -> DssmBackbone:
    made = make_backbone(trunk="dssm", **request.param)
    assert isinstance(made, DssmBackbone)
    return made


def pairs(world: World, users: list[int], items: list[int], facets: tuple[int, int, int] = (1, 2, 1)) -> FeatureBatch:
    table = ProfileTable(world.encoder, world.users, world.items)
    domain = torch.tensor([facets]).expand(len(users), -1)
    return table.batch(torch.tensor(users), torch.tensor(items), domain)


def test_the_representation_concatenates_user_and_item_vectors(dssm: DssmBackbone, world: World) -> None:
    assert isinstance(dssm, TwoTowers)
    batch = pairs(world, [0, 1, 2], [5, 6, 7])
    x = dssm.represent(batch)
    assert torch.equal(x, torch.cat([dssm.user_vector(batch), dssm.item_vector(batch)], dim=1))
    assert dssm.user_vector(batch).shape == dssm.item_vector(batch).shape == (3, dssm.width // 2)


def test_the_user_vector_does_not_depend_on_items_nor_the_item_vector_on_user_or_domain(
    dssm: DssmBackbone, world: World
) -> None:
    here, elsewhere = pairs(world, [0, 0], [5, 6]), pairs(world, [0, 1], [5, 6], (0, 1, 2))
    # Rows are compared at their places: on some processors a product's rows differ in the last bit by where they stand.
    assert torch.equal(dssm.user_vector(here), dssm.user_vector(pairs(world, [0, 0], [7, 8])))
    assert torch.equal(dssm.item_vector(here), dssm.item_vector(elsewhere))
    assert not torch.equal(dssm.user_vector(here)[0], dssm.user_vector(elsewhere)[0]), "its domain is another"


def test_the_click_logit_is_one_dot_product(dssm: DssmBackbone, world: World) -> None:
    """So an index of inner products can search the items for a user."""
    everyone, everything = range(6), range(20)
    batch = pairs(world, [u for u in everyone for _ in everything], [i for _ in everyone for i in everything])
    logit = dssm.predict(dssm.represent(batch), batch.domain)[:, 0].reshape(6, 20)
    user, item = dssm.user_vector(batch)[::20], dssm.item_vector(batch)[:20]
    (net, *_), k = dssm.towers.nets, dssm.matched
    weight, bias = net[0].weight[0], net[0].bias  # type: ignore[index]
    asked, offered = [user[:, :k] * weight, torch.ones(6, 1)], [item[:, :k], bias.expand(20, 1)]
    if dssm.statistics is not None:
        asked += [torch.ones(6, 1), user[:, k:]]
        offered += [item[:, k:], torch.ones(20, 1)]
    torch.testing.assert_close(torch.cat(asked, dim=1) @ torch.cat(offered, dim=1).T, logit, atol=1e-5, rtol=1e-5)


def test_training_uses_the_given_statistics(make_backbone: Make, world: World) -> None:
    dssm = make_backbone(trunk="dssm")
    batch = pairs(world, [0, 1, 2], [5, 6, 7])
    assert isinstance(dssm, DssmBackbone)
    assert dssm.statistics is not None
    seen = dssm.statistics(batch)
    assert torch.equal(dssm.represent(batch, seen), dssm.represent(batch))
    for column in (0, seen.shape[1] - 1):
        changed = seen.clone()
        changed[:, column] += 1.0
        user, item = dssm.represent(batch, changed).chunk(2, dim=1)
        assert torch.equal(user, dssm.user_vector(batch)) == (column >= dssm.statistics.user_width)
        assert torch.equal(item, dssm.item_vector(batch)) == (column < dssm.statistics.user_width)


def test_two_towers_learn_an_interaction_of_user_and_item(world: World) -> None:
    ex = world.examples
    model, _ = pretrain(
        ex, world.users, world.items, world.encoder, domain_sizes=SIZES,
        backbone=SMALL.model_copy(update={"trunk": "dssm"}),
        config=PretrainConfig(epochs=12, patience=12, batch_size=64, learning_rate=1e-2, content_steps=0, refit=False),
    )  # fmt: skip
    table = ProfileTable(world.encoder, world.users, world.items)
    user, item, domain = (torch.from_numpy(column) for column in (ex.user, ex.item, ex.domain))
    batch = table.batch(user, item, domain)
    x, label = model.represent(batch), torch.from_numpy(ex.label)
    both, alone = model.predict(x, batch.domain)[:, 0], model.first_order_logit(x)
    assert alone is not None
    assert log_loss(both, label) < log_loss(alone[:, 0], label) - 0.03


def test_a_kernel_on_two_towers_starts_as_the_frozen_model_and_learns(dssm: DssmBackbone) -> None:
    learner = Learner(kernel_start(dssm.width), LearnerConfig(), fingerprint=dssm.fingerprint, domain_sizes=SIZES)
    asked = micro_batch(dssm, 200, seed=99)
    assert torch.equal(learner.score(asked), asked.frozen_logit)
    for seed in range(15):
        learner.learn(micro_batch(dssm, 128, seed))
    assert log_loss(learner.score(asked), asked.label) < 0.7 * log_loss(asked.frozen_logit, asked.label)


def test_the_logits_can_be_differentiated_in_the_representation(dssm: DssmBackbone, world: World) -> None:
    batch = pairs(world, [0, 1], [5, 6])
    x = dssm.represent(batch).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(dssm.predict(x, batch.domain)[:, 0].sum(), x)
    assert (gradient != 0).all(dim=1).all()


def test_two_towers_round_trip_through_the_disk(dssm: DssmBackbone, world: World, tmp_path: Path) -> None:
    save_backbone(tmp_path, dssm, world.encoder, SCHEMA, {})
    opened = load_backbone(tmp_path, SCHEMA).backbone
    batch = pairs(world, [0, 1], [5, 6])
    assert isinstance(opened, DssmBackbone)
    assert torch.equal(opened.represent(batch), dssm.represent(batch))


def test_the_user_vector_depends_on_the_clock_only_if_time_gaps_are_read(world: World, make_backbone: Make) -> None:
    shape = make_backbone().shape
    for gaps in (False, True):
        changes = {"trunk": "dssm", "user_encoder": "pool", "history_gaps": gaps}
        dssm = DssmBackbone(SMALL.model_copy(update=changes), shape, world.encoder.digest)
        assert dssm.reads_clock == gaps
    assert not make_backbone(trunk="dssm").reads_clock


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"width": 63}, "width is 63, but trunk is dssm"),
        ({"width": 6}, "at least 8"),
        ({"query_aspects": ["text"]}, "query_aspects go with any trunk but dssm"),
    ],
)
def test_settings_that_two_towers_do_not_support_are_refused_by_key(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        BackboneConfig(trunk="dssm", **changes)
    assert BackboneConfig(**changes).trunk == "mmoe"


def test_the_model_with_a_trunk_is_not_an_instance_of_two_towers(make_backbone: Make) -> None:
    backbone = make_backbone()
    assert not isinstance(backbone, TwoTowers)
    with pytest.raises(ValueError, match="make_foundation"):
        FoundationBackbone(backbone.config.model_copy(update={"trunk": "dssm"}), backbone.shape)

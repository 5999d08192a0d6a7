"""Relevance to a query, learned with clicks: what is masked, what stays as it was without it, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn.functional import binary_cross_entropy_with_logits

from model.backbone.checkpoint import load_backbone, save_backbone
from model.backbone.dataset import ProfileTable, TrainingData
from model.backbone.examples import Examples
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import predicts_relevance
from model.backbone.levels import LEVELS
from model.backbone.pretrain import pretrain, pretrain_backbone
from model.backbone.probe import probe_batch
from model.backbone.report import PretrainReport
from model.backbone.schema import CARD, BackboneRefused
from model.backbone.trainer import auc_relevance
from model.backbone.transfer import fine_tune
from model.backbone.wrap import WrappedBackbone
from model.config import NO_QUERY, BackboneConfig, PretrainConfig
from model.evaluation import auc
from model.losses import relevance_loss
from tests.model.backbone.test_queries import BOTH, GENRES, QUERIES, QUICK, Asking, one_request, searching
from tests.model.conftest import SCHEMA, SIZES, World

JUDGED = BOTH.model_copy(update={"relevance_weight": 1.0})
SEARCHED = replace(SCHEMA, query_aspects=BOTH.query_aspects)
LOGITS = st.lists(st.tuples(st.floats(-30, 30, width=32), st.floats(0, 1, width=32)), min_size=1, max_size=20)


def judged(world: World) -> Examples:
    """The searches of `searching`, half of which are judged: an item is relevant if its genre was asked for."""
    examples, rng = searching(world), np.random.default_rng(2)
    assert examples.query is not None
    known = (examples.query != NO_QUERY) & (rng.random(len(examples)) < 0.5)
    fits = (examples.query == examples.item % len(GENRES)).astype(np.float32)
    return replace(examples, relevance=np.where(known, fits, np.float32(np.nan)))


def trained(
    world: World, config: PretrainConfig = QUICK, examples: Examples | None = None, **changes: Any
) -> tuple[FoundationBackbone, PretrainReport]:
    return pretrain(
        judged(world) if examples is None else examples, world.users, world.items, world.encoder, domain_sizes=SIZES,
        backbone=JUDGED.model_copy(update=changes), config=config, queries=QUERIES,
    )  # fmt: skip


@pytest.fixture(scope="module", name="judging")
def _judging(world: World) -> FoundationBackbone:
    return trained(world)[0]


@given(LOGITS, st.lists(st.floats(-30, 30, width=32), max_size=20), st.randoms())
def test_pairs_that_nobody_judged_are_not_in_the_loss(
    known: list[tuple[float, float]], others: list[float], random: Any
) -> None:
    rows = [*known, *((logit, float("nan")) for logit in others)]
    random.shuffle(rows)
    logit, relevance = torch.tensor(rows).T.clone().requires_grad_()
    leaf = logit.detach().clone().requires_grad_()
    loss = relevance_loss(leaf, relevance.detach())
    alone, labels = torch.tensor(known).T
    torch.testing.assert_close(loss, binary_cross_entropy_with_logits(alone, labels))
    loss.backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    assert (leaf.grad[relevance.isnan()] == 0).all()


def test_a_batch_in_which_nobody_judged_adds_nothing_to_the_loss() -> None:
    assert relevance_loss(torch.ones(3), torch.full((3,), torch.nan)) == 0


def test_relevance_is_learned_beside_clicks_and_follows_the_query() -> None:
    world = World(examples=3_000)
    config = PretrainConfig(epochs=8, batch_size=64, learning_rate=1e-2, content_steps=0)
    model, report = trained(world, config)
    data = TrainingData.of(judged(world), ProfileTable(world.encoder, world.users, world.items, QUERIES))
    assert report.validation_auc_relevance > 0.9
    assert auc_relevance(model, data) > 0.9
    for place, query in enumerate(QUERIES):
        asked = one_request(world, query, items=len(world.items))
        relevance = model.predict_all(model.represent(asked), asked.domain)[:, 2]
        fits = torch.arange(len(world.items)) % len(GENRES) == place
        assert auc(fits, relevance) > 0.9, f"what fits {query.query} is not the most relevant"


@pytest.mark.parametrize("trunk", ["mlp", "mmoe", "ple"])
def test_click_logits_are_the_same_from_predict_all_and_from_predict(trunk: str, world: World) -> None:
    model, _ = trained(world, PretrainConfig(epochs=1, batch_size=256, refit=False, content_steps=0), trunk=trunk)
    batch = one_request(world, QUERIES[0])
    x = model.represent(batch)
    every = model.predict_all(x, batch.domain)
    assert every.shape == (len(batch), 3) and every[:, 2].std() > 0
    assert torch.equal(every[:, :2], model.predict(x, batch.domain))


def test_judgements_that_no_task_reads_leave_the_backbone_bit_for_bit_as_it_was(world: World) -> None:
    with_labels, _ = trained(world, relevance_weight=0.0)
    without, _ = trained(world, examples=searching(world), relevance_weight=0.0)
    assert with_labels.fingerprint == without.fingerprint
    assert not predicts_relevance(without) and not any("relevance" in name for name in without.state_dict())
    with pytest.raises(ValueError, match="relevance_weight is 0"):
        without.predict_all(torch.zeros(1, without.width), torch.zeros(1, 3, dtype=torch.int64))


def test_settings_without_relevance_leave_the_key_out_of_the_fingerprint() -> None:
    plain = json.loads(BOTH.identity)
    assert "relevance_weight" not in plain and "factory" not in plain
    assert json.loads(JUDGED.identity) == plain | {"relevance_weight": 1.0}


def test_a_card_without_the_key_is_read_as_a_backbone_without_relevance(world: World, tmp_path: Path) -> None:
    backbone, _ = trained(world, relevance_weight=0.0)
    save_backbone(tmp_path, backbone, world.encoder, SEARCHED, {})
    card = json.loads((tmp_path / CARD).read_text())
    del card["backbone"]["config"]["relevance_weight"]
    (tmp_path / CARD).write_text(json.dumps(card))
    opened = load_backbone(tmp_path, SEARCHED).backbone
    assert opened.fingerprint == backbone.fingerprint and not predicts_relevance(opened)


def test_a_saved_backbone_predicts_the_same_relevance(
    judging: FoundationBackbone, world: World, tmp_path: Path
) -> None:
    save_backbone(tmp_path, judging, world.encoder, SEARCHED, {})
    opened, batch = load_backbone(tmp_path, SEARCHED).backbone, one_request(world, QUERIES[1])
    x = judging.represent(batch)
    assert predicts_relevance(opened)
    assert torch.equal(opened.predict_all(x, batch.domain), judging.predict_all(x, batch.domain))


@pytest.mark.parametrize("how", ["unknown", "nobody judged"])
def test_examples_without_judgements_refuse_the_task_by_its_key(how: str, world: World) -> None:
    unknown = None if how == "unknown" else np.full(len(world.examples), np.nan, dtype=np.float32)
    with pytest.raises(BackboneRefused, match=r"backbone\.relevance_weight is 1, but nobody judged"):
        pretrain_backbone(
            replace(searching(world), relevance=unknown), world.users, world.items, world.encoder, domain_sizes=SIZES,
            backbone=JUDGED, config=QUICK, queries=QUERIES,
        )  # fmt: skip


def test_relevance_outside_0_to_1_is_refused(world: World) -> None:
    wrong = np.full(len(world.examples), 1.5, dtype=np.float32)
    with pytest.raises(ValueError, match="relevance has values outside 0 to 1"):
        replace(world.examples, relevance=wrong)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"query_aspects": ()}, "relevance_weight is 0.5, but query_aspects is empty"),
        ({"query_aspects": ("text",), "factory": "mine.py:model"}, "relevance_weight is for the foundation model"),
        ({"query_aspects": ("text",), "trunk": "dssm"}, "query_aspects go with any trunk but dssm"),
    ],
)
def test_a_backbone_that_cannot_have_it_refuses_it_by_its_key(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        BackboneConfig(relevance_weight=0.5, **keys)


def test_a_backbone_of_ones_own_predicts_no_relevance(world: World) -> None:
    assert not predicts_relevance(WrappedBackbone(Asking(), probe_batch(world.encoder, SIZES, BOTH)))


def new_scene(examples: Examples) -> Examples:
    domain = examples.domain.copy()
    domain[:, 0] = SIZES[0]
    return replace(examples, domain=domain)


Tune = Callable[[Examples], FoundationBackbone]


@pytest.fixture(name="tune")
def _tune(judging: FoundationBackbone, world: World) -> Tune:
    def tune(examples: Examples) -> FoundationBackbone:
        return fine_tune(
            judging, new_scene(examples), world.users, world.items, world.encoder, frozen=LEVELS[:1],
            config=PretrainConfig(epochs=1, refit=False, learning_rate=0.05), click_rate=0.3, method="lora",
            queries=QUERIES,
        ).backbone  # fmt: skip

    return tune


def test_a_new_scenes_own_parameters_leave_the_relevance_of_old_scenes_as_it_was(
    judging: FoundationBackbone, world: World, tune: Tune
) -> None:
    made, batch = tune(judged(world)), one_request(world, QUERIES[0])
    x = judging.represent(batch)
    assert predicts_relevance(made)
    assert torch.equal(made.predict_all(x, batch.domain), judging.predict_all(x, batch.domain))
    there = torch.tensor([[SIZES[0], 1, 2]])
    assert not torch.equal(made.predict_all(x, there), made.predict_all(x, batch.domain))


def test_a_backbone_of_relevance_is_not_tuned_on_examples_that_nobody_judged(world: World, tune: Tune) -> None:
    with pytest.raises(BackboneRefused, match=r"backbone\.relevance_weight"):
        tune(searching(world))

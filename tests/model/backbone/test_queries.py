"""Search and recommendation in one backbone: what a query changes, what it must not, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from model.backbone.checkpoint import load_backbone, save_backbone
from model.backbone.dataset import ProfileTable, TrainingData
from model.backbone.examples import Examples
from model.backbone.foundation import FoundationBackbone
from model.backbone.pretrain import pretrain, pretrain_backbone
from model.backbone.probe import probe_batch
from model.backbone.schema import BackboneRefused
from model.backbone.trainer import logits_of
from model.backbone.training_state import ResumeError
from model.backbone.transfer import fine_tune
from model.backbone.wrap import WrappedBackbone
from model.config import NO_QUERY, BackboneConfig, PretrainConfig
from model.encoding.features import FeatureBatch
from model.encoding.query import QueryFeatures
from model.evaluation import auc
from tests.model.conftest import SCHEMA, SIZES, SMALL, TEXT, World

GENRES = ("drama", "crime", "war", "love")
QUERIES = [QueryFeatures(genre, np.eye(TEXT, dtype=np.float32)[place]) for place, genre in enumerate(GENRES)]
BOTH = SMALL.model_copy(update={"query_aspects": ("text", "words")})
QUICK = PretrainConfig(epochs=2, batch_size=64)
VARIANTS: dict[str, dict[str, Any]] = {
    "text": {"query_aspects": ("text",)},
    "words": {"query_aspects": ("words",)},
    "items not by text": {"item_aspects": ("id", "sparse")},
    **{f"{gating} gating": {"gating": gating} for gating in ("plain", "mean", "cls", "domain")},
}


def searching(world: World) -> Examples:
    """The simulated examples; a third of them are searches with clicks on items of the requested genre."""
    examples, rng = world.examples, np.random.default_rng(1)
    query = np.where(rng.random(len(examples)) < 1 / 3, rng.integers(len(GENRES), size=len(examples)), NO_QUERY)
    fits = query == examples.item % len(GENRES)
    label = np.where(query == NO_QUERY, examples.label, (rng.random(len(examples)) < np.where(fits, 0.9, 0.1)))
    return replace(examples, query=query, label=label.astype(np.float32), conversion=None)


def trained(world: World, config: PretrainConfig = QUICK, **changes: Any) -> FoundationBackbone:
    backbone = BOTH.model_copy(update=changes)
    made, _ = pretrain(
        searching(world), world.users, world.items, world.encoder, domain_sizes=SIZES, backbone=backbone,
        config=config, queries=QUERIES,
    )  # fmt: skip
    return made


@pytest.fixture(scope="module", name="both")
def _both(world: World) -> FoundationBackbone:
    return trained(world)


@pytest.fixture(scope="module", name="data")
def _data(world: World) -> TrainingData:
    return TrainingData.of(searching(world), ProfileTable(world.encoder, world.users, world.items, QUERIES))


def one_request(world: World, query: QueryFeatures | None = None, items: int = 5) -> FeatureBatch:
    encoder = world.encoder
    shown = [encoder.encode_item(item) for item in world.items[:items]]
    asked = None if query is None else encoder.encode_query(query)
    return encoder.batch(encoder.encode_user(world.users[1]), shown, (1, 1, 2), query=asked)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_query_changes_the_logit_in_every_variant(variant: str, world: World) -> None:
    model = trained(world, PretrainConfig(epochs=1, batch_size=256, refit=False, content_steps=0), **VARIANTS[variant])
    answers = [model.represent(one_request(world, query)) for query in (*QUERIES[:2], None)]
    assert all(torch.isfinite(x).all() for x in answers)
    assert not torch.equal(answers[0], answers[1]) and not torch.equal(answers[0], answers[2])


def test_a_backbone_without_query_aspects_scores_a_search_bit_identically_to_a_recommendation(
    backbone: FoundationBackbone, world: World
) -> None:
    plain, asked = (backbone.represent(one_request(world, query)) for query in (None, QUERIES[0]))
    assert torch.equal(plain, asked)


def test_pairs_without_a_query_do_not_depend_on_searches_in_the_batch(
    both: FoundationBackbone, data: TrainingData
) -> None:
    index = torch.arange(40)
    assert data.query is not None
    recommended = data.query[index] == NO_QUERY
    mixed = both.represent(data.batch(index))
    alone = both.represent(replace(data.batch(index), query=None))
    assert 0 < recommended.sum() < len(index)
    assert torch.equal(mixed[recommended], alone[recommended])
    assert not torch.equal(mixed[~recommended], alone[~recommended])


def test_a_request_gives_the_same_as_its_pairs_one_by_one(both: FoundationBackbone, world: World) -> None:
    batch = one_request(world, QUERIES[2])
    profiles = ProfileTable(world.encoder, world.users, world.items, QUERIES)
    n = len(batch)
    pairs = profiles.batch(
        torch.ones(n, dtype=torch.int64), torch.arange(n), batch.domain.expand(n, -1), query=torch.full((n,), 2)
    )
    torch.testing.assert_close(both.represent(batch), both.represent(pairs))


def test_content_vectors_depend_on_the_item_only(both: FoundationBackbone, world: World) -> None:
    assert torch.equal(both.content(one_request(world, QUERIES[0])), both.content(one_request(world)))


def test_one_backbone_learns_search_and_recommendation() -> None:
    world = World(examples=3_000)
    model = trained(world, PretrainConfig(epochs=8, batch_size=64, learning_rate=1e-2, content_steps=0))
    data = TrainingData.of(searching(world), ProfileTable(world.encoder, world.users, world.items, QUERIES))
    logits, label = logits_of(model, data)[:, 0], data.label.numpy()
    assert data.query is not None
    searches = data.query.numpy() != NO_QUERY
    assert auc(label[searches], logits[searches]) > 0.8
    assert auc(label[~searches], logits[~searches]) > 0.6
    for place, query in enumerate(QUERIES):
        asked = one_request(world, query, items=len(world.items))
        scores = model.predict(model.represent(asked), asked.domain)[:, 0]
        fits = torch.arange(len(world.items)) % len(GENRES) == place
        assert scores[fits].mean() > scores[~fits].mean() + 1.0, f"what fits {query.query} does not come first"


@pytest.mark.parametrize("how", ["unknown", "none"])
def test_examples_without_queries_refuse_the_aspects_by_their_key(how: str, world: World) -> None:
    query = None if how == "unknown" else np.full(len(world.examples), NO_QUERY)
    with pytest.raises(BackboneRefused, match=r"backbone\.query_aspects is text, words"):
        pretrain_backbone(
            replace(world.examples, query=query), world.users, world.items, world.encoder, domain_sizes=SIZES,
            backbone=BOTH, config=QUICK, queries=QUERIES,
        )  # fmt: skip


def test_missing_queries_are_refused(world: World) -> None:
    with pytest.raises(ValueError, match="3 of a list of 2"):
        pretrain_backbone(
            searching(world), world.users, world.items, world.encoder, domain_sizes=SIZES, backbone=BOTH,
            config=QUICK, queries=QUERIES[:2],
        )  # fmt: skip


def test_a_saved_backbone_gives_equal_logits_and_names_differing_settings(
    both: FoundationBackbone, world: World, tmp_path: Path
) -> None:
    schema = replace(SCHEMA, query_aspects=BOTH.query_aspects)
    save_backbone(tmp_path, both, world.encoder, schema, {})
    opened, batch = load_backbone(tmp_path, schema).backbone, one_request(world, QUERIES[1])
    assert torch.equal(opened.represent(batch), both.represent(batch))
    with pytest.raises(BackboneRefused, match=r"backbone\.query_aspects is empty, pretraining had text, words"):
        load_backbone(tmp_path, SCHEMA)


def test_a_run_is_not_resumed_with_other_queries(world: World, tmp_path: Path) -> None:
    class Interrupted(Exception):
        """Stands for a kill."""

    def stop(at: object) -> None:
        if getattr(at, "epoch", 0) == 2:
            raise Interrupted

    def run(examples: Examples, **more: Any) -> None:
        pretrain(
            examples, world.users, world.items, world.encoder, domain_sizes=SIZES, backbone=BOTH, config=QUICK,
            resume=tmp_path / "state", queries=QUERIES, **more,
        )  # fmt: skip

    examples = searching(world)
    assert examples.query is not None
    with pytest.raises(Interrupted):
        run(examples, progress=stop)
    with pytest.raises(ResumeError):
        run(replace(examples, query=examples.query[::-1].copy()))


def test_a_new_scene_may_have_recommendations_only(both: FoundationBackbone, world: World) -> None:
    examples = world.examples
    domain = examples.domain.copy()
    domain[:, 0] = SIZES[0]
    made = fine_tune(
        both, replace(examples, domain=domain, query=None), world.users, world.items, world.encoder,
        frozen=("L0", "L1"), config=PretrainConfig(epochs=1, refit=False), click_rate=0.3,
    )  # fmt: skip
    kept, now = both.state_dict(), made.backbone.state_dict()
    assert torch.equal(now["query.text.weight"], kept["query.text.weight"])


class Asking(nn.Module):
    """A backbone of a user's own that reads the query."""

    def __init__(self) -> None:
        super().__init__()
        self.item, self.query, self.head = nn.Linear(TEXT, 4), nn.Linear(TEXT, 4), nn.Linear(4, 1)

    def represent(self, batch: FeatureBatch) -> Tensor:
        x: Tensor = self.item(batch.text)
        if batch.query is None:
            return x
        asked: Tensor = self.query(batch.query.text)[batch.query.of.clamp(min=0)] * batch.query.there[:, None]
        return x + asked

    def predict(self, x: Tensor, _domain: Tensor) -> Tensor:
        logit: Tensor = self.head(x)[:, 0]
        return logit


def test_a_custom_backbone_is_checked_with_queries_and_may_read_them(world: World) -> None:
    own = WrappedBackbone(Asking(), probe_batch(world.encoder, SIZES, BOTH))
    assert not torch.equal(own.represent(one_request(world, QUERIES[0])), own.represent(one_request(world)))


def test_an_aspect_named_twice_is_refused() -> None:
    assert BackboneConfig(query_aspects=("words", "text")).query_aspects == ("text", "words")
    with pytest.raises(ValidationError, match="'text' is listed twice"):
        BackboneConfig(query_aspects=("text", "text"))

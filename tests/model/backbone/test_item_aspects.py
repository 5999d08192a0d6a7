"""What an item is known by: what is named counts, and nothing else does; what makes no sense is refused by its key."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from model.backbone.checkpoint import BackboneRefused, load_backbone, save_backbone
from model.backbone.foundation import FoundationBackbone
from model.backbone.pretrain import pretrain_backbone
from model.config import ITEM_ASPECTS, BackboneConfig, ItemAspect, PretrainConfig
from model.encoding.features import FeatureEncoder
from model.encoding.profile import ItemFeatures
from tests.model.conftest import FIELDS, SCHEMA, SIZES, SMALL, TEXT, World

Aspects = tuple[ItemAspect, ...]
SUBSETS: list[Aspects] = [part for size in (1, 2, 3) for part in combinations(ITEM_ASPECTS, size)]


@pytest.fixture(scope="module", params=SUBSETS, ids="-".join)
def trained(request: pytest.FixtureRequest, make_backbone: Any) -> FoundationBackbone:
    backbone: FoundationBackbone = make_backbone(item_aspects=request.param)
    return backbone


def answers(backbone: FoundationBackbone, world: World, items: list[ItemFeatures]) -> tuple[torch.Tensor, torch.Tensor]:
    """Representation and content of the items for one user."""
    user = world.encoder.encode_user(world.users[0])
    batch = world.encoder.batch(user, [world.encoder.encode_item(item) for item in items], (1, 1, 1))
    with torch.no_grad():
        return backbone.represent(batch), backbone.content(batch)


CHANGED = {
    "id": lambda item, other: replace(item, item_id=other.item_id),
    "text": lambda item, other: replace(item, text=other.text),
    "sparse": lambda item, other: replace(item, fields=other.fields),
}


@pytest.mark.parametrize("aspect", ITEM_ASPECTS)
def test_an_item_changes_with_an_aspect_if_and_only_if_it_is_named(
    aspect: ItemAspect, trained: FoundationBackbone, world: World
) -> None:
    item = world.items[0]
    other = CHANGED[aspect](item, world.items[7])
    # At the same place: on some processors a product's rows differ in the last bit by where they stand.
    (x, content), (changed_x, changed_content) = (answers(trained, world, [item, last]) for last in (item, other))
    named = aspect in trained.config.item_aspects
    assert torch.equal(x[1], changed_x[1]) != named
    assert torch.equal(content[1], changed_content[1]) != named


@given(st.text(max_size=8), st.text(max_size=8), st.integers(0, 39))
def test_with_text_as_the_only_aspect_items_with_equal_text_are_equal(
    make_backbone: Any, world: World, one: str, other: str, number: int
) -> None:
    text = world.items[number].text
    items = [world.items[number], ItemFeatures(one, {}, text), ItemFeatures(other, {"genres": ["opera"]}, text)]
    trained = make_backbone(item_aspects=("text",))
    x, content = answers(trained, world, items)
    same_x, same_content = answers(trained, world, [world.items[number]] * len(items))
    assert torch.equal(x, same_x)
    assert torch.equal(content, same_content)


def test_unused_aspects_have_no_parameters_and_no_statistics(trained: FoundationBackbone) -> None:
    aspects, names = trained.config.item_aspects, set(trained.state_dict())
    assert ("item_table.weight" in names) == ("statistics.item" in names) == ("id" in aspects)
    assert ("item_text.weight" in names) == ("text" in aspects)
    assert ("item_sparse.table.weight" in names) == ("statistics.item_sparse" in names) == ("sparse" in aspects)


def test_item_aspects_are_saved_with_the_backbone_and_checked_when_it_is_opened(
    trained: FoundationBackbone, world: World, tmp_path: Path
) -> None:
    schema = replace(SCHEMA, item_aspects=trained.config.item_aspects)
    save_backbone(tmp_path, trained, world.encoder, schema, {})
    loaded = load_backbone(tmp_path, schema)
    assert loaded.config.item_aspects == trained.config.item_aspects
    assert isinstance(loaded.backbone, FoundationBackbone)
    again, before = answers(loaded.backbone, world, world.items), answers(trained, world, world.items)
    for one, other in zip(again, before, strict=True):
        assert torch.equal(one, other)
    for others in SUBSETS:
        if others != trained.config.item_aspects:
            with pytest.raises(BackboneRefused, match=r"backbone\.item_aspects is .*, pretraining had"):
                load_backbone(tmp_path, replace(SCHEMA, item_aspects=others))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({"item_aspects": ()}, "item_aspects is empty, but an item needs one at least: id, text, sparse"),
    "one twice": ({"item_aspects": ("id", "id")}, "'id' is listed twice"),
    "an unknown one": ({"item_aspects": ("title",)}, "'id', 'text' or 'sparse'"),
    "a custom backbone": ({"item_aspects": ("id",), "factory": "a.b:c"}, r"item_aspects .*\(factory\)"),
    "a history by id without ids": (
        {"item_aspects": ("text",), "user_encoder": "pool"}, "history_items is both, but item_aspects has no id"
    ),
    "a history without what it is known by": (
        {"item_aspects": ("sparse",), "user_encoder": "pool"}, "has no id and no text"
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", REFUSED)
def test_invalid_item_aspects_are_refused_by_key(wrong: str) -> None:
    keys, words = REFUSED[wrong]
    with pytest.raises(ValidationError, match=words):
        BackboneConfig(**keys)


def test_the_order_of_named_aspects_does_not_matter() -> None:
    assert BackboneConfig(item_aspects=("sparse", "id")).item_aspects == ("id", "sparse")


@pytest.mark.parametrize(
    ("aspects", "words"),
    [
        (("text",), "text, but no item has a text"),
        (("sparse",), "sparse, but no item field is declared"),
        (("text", "sparse"), "text, sparse, but no item has a text and no item field"),
    ],
)
def test_aspects_without_data_are_refused_before_training(aspects: Aspects, words: str, world: World) -> None:
    blank = [replace(item, text=np.zeros(TEXT, dtype=np.float32)) for item in world.items]
    encoder = FeatureEncoder.fit(world.users, blank, user_fields=FIELDS, item_fields=(), text_width=TEXT)
    config = SMALL.model_copy(update={"item_aspects": aspects})
    with pytest.raises(BackboneRefused, match=rf"backbone\.item_aspects is {words}"):
        pretrain_backbone(
            world.examples, world.users, blank, encoder, domain_sizes=SIZES, backbone=config, config=PretrainConfig()
        )


@pytest.mark.parametrize("encoder", ["sasrec", "bert4rec"])
def test_a_user_encoder_that_reads_items_by_text_needs_no_ids(encoder: str, world: World) -> None:
    keys = {"item_aspects": ("text",), "history_items": "text", "user_encoder": encoder, "history_length": 5}
    config = BackboneConfig(**{**SMALL.model_dump(), **keys})
    backbone, _ = pretrain_backbone(
        world.examples, world.users, world.items, world.encoder, domain_sizes=SIZES, backbone=config,
        config=PretrainConfig(epochs=1, batch_size=64, cloze_passes=1),
    )  # fmt: skip
    assert not [name for name in backbone.state_dict() if name.startswith("item_table")]  # type: ignore[attr-defined]

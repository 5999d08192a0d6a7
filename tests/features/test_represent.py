"""From ids to what the arms score, on the real store and a real, untrained backbone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from features.config import FeatureConfig, LiveConfig
from features.live.features import LiveLayout
from features.profiles import ItemProfile, UserProfile
from features.represent import Representer
from features.represented import Represented
from features.store.feature_store import FeatureStore
from features.store.online import StoreUnavailableError
from model.backbone.foundation import FoundationBackbone
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig
from model.encoding.domain import Domain
from model.encoding.profile import UserFeatures
from streaming.events import UserEvent, decode_event
from tests.features.conftest import Counts
from tests.features.represent_parts import HERE, ITEMS, Parts, fitted_encoder


def test_shapes_types_and_rounding_are_as_documented(parts: Parts) -> None:
    represented = parts.representer.represent("u", ITEMS, HERE, 10.0)
    backbone = parts.representer.backbone
    assert represented.x.shape == (12, backbone.width)
    assert represented.live.shape == (12, parts.representer.layout.width)
    assert represented.content.shape == (12, backbone.content_width)
    assert represented.frozen_logit.shape == (12,)
    assert represented.values.shape == (12, parts.representer.layout.crossing.slots)
    assert represented.values.dtype == np.int16
    for tensor in (represented.x, represented.live, represented.content, represented.frozen_logit):
        assert tensor.dtype == torch.float32
    for tensor in (represented.x, represented.content):
        assert torch.equal(tensor, tensor.half().float())
    facets = torch.tensor([[1, 1, 1]]).expand(12, -1)
    assert torch.equal(represented.frozen_logit, backbone.predict(represented.x, facets)[:, 0])


def test_with_text_as_the_only_aspect_items_with_equal_text_are_represented_alike(
    parts: Parts,
) -> None:
    known, store = parts.representer, parts.representer.store
    store.write_items([
        ItemProfile(item, 2.0, "the same film", {"genres": genres}) for item, genres in
        (("i0", ["Drama"]), ("i1", ["War"]), ("never seen", ["Opera"]))
    ])  # fmt: skip
    config = BackboneConfig(item_aspects=("text",))
    torch.manual_seed(3)
    backbone = FoundationBackbone(config, BackboneShape.of(known.encoder, known.space.sizes), known.encoder.digest)
    torch.nn.init.normal_(backbone.content_map)
    by_text = Representer(backbone.freeze(), known.encoder, store, known.layout, known.space)
    ids = ["i0", "i1", "never seen", "i2"]
    one, two, new, other = by_text.represent("u", ids, HERE, 10.0).x
    assert torch.equal(one, two)
    assert torch.equal(one, new)
    assert not torch.equal(one, other)
    first, second = known.represent("u", ids[:2], HERE, 10.0).x
    assert not torch.equal(first, second), "with all aspects these two differ"


def test_unknown_users_and_items_are_represented_by_defaults_and_counted(parts: Parts, counts: Counts) -> None:
    counts.clear()
    represented = parts.representer.represent("nobody", ["nothing", "i0"], Domain("moon"), 10.0)
    assert torch.isfinite(represented.x).all()
    assert counts["user_profile", "missing"] == 1
    assert counts["item_profile", "missing"] == 1
    twin = parts.representer.represent("someone else", ["nothing more", "i0"], Domain("moon"), 10.0)
    assert torch.equal(represented.x, twin.x)
    assert torch.equal(represented.content[0], twin.content[0])
    assert not torch.equal(represented.content[0], represented.content[1])


def test_a_category_sent_as_a_json_number_is_the_one_that_pretraining_saw(parts: Parts, counts: Counts) -> None:
    parts.store.write_users([UserProfile("u", 1.0, {"occupation": "7"})])
    encoder, known = fitted_encoder(parts.store), parts.representer
    representer = Representer(known.backbone, encoder, known.store, known.layout, known.space)
    expected = encoder.encode_user(UserFeatures("u", {"occupation": "7"})).sparse
    for spelling in (b"7", b"7.0", b'"7"'):
        event = decode_event(b'{"event":"user","user_id":"n","time":1.0,"fields":{"occupation":%s}}' % spelling)
        assert isinstance(event, UserEvent)
        parts.store.write_users([event])
        read = parts.store.read_users(["n"])[0]
        assert read is not None
        assert np.array_equal(encoder.encode_user(read).sparse, expected)
    representer.represent("n", ["i0"], HERE, 10.0)
    assert counts["user_profile", "unknown_value"] == 0


def test_values_that_pretraining_did_not_see_are_counted(parts: Parts, counts: Counts) -> None:
    parts.store.write_users([UserProfile("n", 1.0, {"occupation": "astronaut", "gender": "F"})])
    genres = [f"genre {n}" for n in range(20)]
    parts.store.write_items([ItemProfile("new", 1.0, "a film", {"genres": genres})])
    parts.representer.represent("n", ["new"], HERE, 10.0)
    assert counts["user_profile", "unknown_value"] == 1
    assert (counts["item_profile", "unknown_value"], counts["item_profile", "cut_value"]) == (16, 4)


def test_neither_the_order_of_items_nor_other_items_matter(parts: Parts) -> None:
    forward = parts.representer.represent("u", ITEMS, HERE, 10.0)
    backward = parts.representer.represent("u", ITEMS[::-1], HERE, 10.0)
    twice = parts.representer.represent("u", ["i3", "i3"], HERE, 10.0)
    torch.testing.assert_close(forward.x, backward.x.flip(0), atol=2e-3, rtol=2e-3)
    assert torch.equal(forward.content, backward.content.flip(0))
    assert torch.equal(twice.content[0], twice.content[1])
    assert torch.equal(twice.content[0], forward.content[3])


def test_an_empty_list_a_wrong_layout_and_a_missing_store_are_refused(parts: Parts, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no item"):
        parts.representer.represent("u", [], HERE, 10.0)
    known = parts.representer
    with pytest.raises(ValueError, match="content vectors of width 3"):
        Representer(
            known.backbone,
            known.encoder,
            known.store,
            LiveLayout.of(LiveConfig(), 3, known.layout.crossing),
            known.space,
        )
    absent = FeatureStore(FeatureConfig(), tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(StoreUnavailableError, match="not applied"):
        Representer(known.backbone, known.encoder, absent, known.layout, known.space).represent("u", ["i0"], HERE, 1.0)


def test_items_of_one_request_are_joined_in_order_with_all_that_is_known_of_them(parts: Parts) -> None:
    whole = parts.representer.represent("u", ITEMS, HERE, 10.0)
    whole = replace(whole, relevance_logit=torch.arange(12.0))
    kept = torch.arange(12) < 5
    joined = Represented.joined([whole.rows(kept), whole.rows(~kept)])
    for name, value in whole._tensors().items():
        assert torch.equal(getattr(joined, name), value), name
    assert np.array_equal(joined.values, whole.values) and joined.cvr_logit is None
    spoilt = replace(whole, relevance_logit=torch.tensor([torch.nan, *range(11)]))
    assert spoilt.finite().tolist() == [False] + [True] * 11

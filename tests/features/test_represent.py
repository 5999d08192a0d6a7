"""From ids to what the arms score, on the real store and a real, untrained backbone."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from features.config import FeatureConfig, LiveConfig
from features.live.features import LiveFeatures, LiveLayout, RequestItems
from features.live.layout import Crossing, Floats
from features.live.outcome import RequestOutcome
from features.live.tasks import as_conversions
from features.profiles import ItemProfile, UserProfile
from features.queries import QueryTexts
from features.represent import Representer
from features.represented import Represented
from features.store.feature_store import FeatureStore
from features.store.online import StoreUnavailableError
from features.text import TextEncoder
from model.backbone.foundation import FoundationBackbone
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig, HistorySpec
from model.encoding.domain import Domain, DomainSpace
from model.encoding.features import FeatureEncoder
from model.encoding.item_values import ItemValues
from model.encoding.profile import ItemFeatures, UserFeatures
from streaming.events import UserEvent, decode_event
from tests.features.conftest import Clock, Counting, Counts

HERE = Domain("home", "north", "night")
ITEMS = [f"i{n}" for n in range(12)]


@dataclass
class Parts:
    """All that a scorer or the ingest holds."""

    store: FeatureStore
    representer: Representer
    live: LiveFeatures
    clock: Clock


@pytest.fixture
def parts(tmp_path: Path, counts: Counts, text_encoder: TextEncoder) -> Parts:
    store = FeatureStore(FeatureConfig(), tmp_path, Counting(counts), text=text_encoder)
    store.apply()
    store.write_users([UserProfile("u", 1.0, {"age": 30.0, "gender": "F", "occupation": "artist"})])
    store.write_items([
        ItemProfile(item, 1.0, f"film {item}", {"genres": ["Drama"], "year": 1990.0 + n})
        for n, item in enumerate(ITEMS)
    ])  # fmt: skip
    space = DomainSpace({"scene": ["home"], "region": ["north"], "period": ["night"]})
    encoder = _encoder(store)
    torch.manual_seed(3)
    backbone = FoundationBackbone(BackboneConfig(), BackboneShape.of(encoder, space.sizes), encoder.digest)
    torch.nn.init.normal_(backbone.content_map)
    backbone.freeze()
    config = LiveConfig(half_lives_s=(2.0, 100.0))
    layout = LiveLayout.of(config, backbone.content_width, Crossing.of(ItemValues(encoder), space))
    clock = Clock()
    return Parts(
        store, Representer(backbone, encoder, store, layout, space, now=clock), LiveFeatures(layout, config), clock
    )


def outcome(shown: Represented, items: list[str], residual: Floats, time: float) -> RequestOutcome:
    """What the user did with what was shown: a click wherever the frozen model was too low."""
    click = (residual > 0).astype(np.float32)
    return RequestOutcome("u", HERE, items, shown.content.numpy(), shown.values, click, residual, time)


def _encoder(store: FeatureStore) -> FeatureEncoder:
    users = [user for user in store.read_users(["u"]) if user]
    items = [item for item in store.read_items(ITEMS[:10]) if item]
    fields = store.config
    return FeatureEncoder.fit(
        users, items, user_fields=fields.user_fields, item_fields=fields.item_fields, text_width=384
    )


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


def test_live_features_through_the_store_are_those_of_the_processor_bit_for_bit(parts: Parts) -> None:
    shown = parts.representer.represent("u", ITEMS, HERE, 10.0)
    request = RequestItems(HERE, shown.content.numpy(), shown.values)
    rng = np.random.default_rng(0)
    for time in range(20):
        errors = rng.normal(size=12, scale=0.5).astype(np.float32)
        parts.live.update([outcome(shown, ITEMS, errors, float(time))])
        parts.store.push_live(parts.live.take_changed())
    served = parts.representer.represent("u", ITEMS, HERE, 20.5).live.numpy()
    assert served.any()
    assert served.tobytes() == parts.live.features(20.5, "u", request, ITEMS).tobytes()


def test_live_rows_are_read_again_for_each_request(parts: Parts) -> None:
    before = parts.representer.represent("u", ["i0"], HERE, 5.0)
    parts.live.update([outcome(before, ["i0"], np.array([0.7], dtype=np.float32), 5.0)])
    parts.store.push_live(parts.live.take_changed())
    assert not torch.equal(parts.representer.represent("u", ["i0"], HERE, 5.0).live, before.live)


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
    encoder, known = _encoder(parts.store), parts.representer
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


def test_profiles_are_cached_for_their_lifetime_and_then_read_again(parts: Parts) -> None:
    old = parts.representer.represent("u", ["i0"], HERE, 10.0).x
    parts.store.write_users([UserProfile("u", 2.0, {"gender": "F"})])
    parts.store.write_items([ItemProfile("i0", 2.0, "another film", {"genres": ["Drama"]})])
    assert torch.equal(parts.representer.represent("u", ["i0"], HERE, 10.0).x, old)
    parts.clock.now = 6.0
    newer = parts.representer.represent("u", ["i0"], HERE, 10.0)
    assert not torch.equal(newer.x, old)
    parts.clock.now = 61.0
    newest = parts.representer.represent("u", ["i0"], HERE, 10.0)
    assert not torch.equal(newest.content, newer.content)


def test_a_new_item_is_known_soon_although_it_was_requested_before(parts: Parts) -> None:
    unknown = parts.representer.represent("u", ["new"], HERE, 10.0).content
    parts.store.write_items([ItemProfile("new", 2.0, "a new film", {"genres": ["Drama"]})])
    parts.clock.now = 6.0
    assert not torch.equal(parts.representer.represent("u", ["new"], HERE, 10.0).content, unknown)
    unknown = parts.representer.represent("u", ["newer"], HERE, 10.0).content
    parts.store.write_items([ItemProfile("newer", 2.0, "a newer film", {"genres": ["Drama"]})])
    parts.representer.forget()
    assert not torch.equal(parts.representer.represent("u", ["newer"], HERE, 10.0).content, unknown)


def test_text_vectors_of_another_model_are_ignored_and_logged(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def narrow(ids: list[str], now: float | None = None) -> list[ItemFeatures]:
        return [ItemFeatures(key, {}, np.ones(7, dtype=np.float32)) for key in ids]

    monkeypatch.setattr(parts.store, "read_items", narrow)
    represented = parts.representer.represent("u", ["a", "b"], HERE, 10.0)
    assert torch.isfinite(represented.x).all()
    assert caplog.text.count("have width 7") == 1


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


def test_groups_read_their_own_live_rows(parts: Parts) -> None:
    known = parts.representer
    scoped = Representer(
        known.backbone, known.encoder, known.store, known.layout, known.space, scope_of=lambda domain: domain.region
    )
    shown = known.represent("u", ["i0"], HERE, 5.0)
    parts.live.update([outcome(shown, ["i0"], np.array([0.7], dtype=np.float32), 5.0)])
    parts.store.push_live(parts.live.take_changed(), scope="north")
    assert scoped.represent("u", ["i0"], HERE, 5.0).live[:, 0] > 0
    assert known.represent("u", ["i0"], HERE, 5.0).live[:, 0] == 0


def test_conversions_have_separate_live_features_and_leave_those_of_clicks_unchanged(parts: Parts) -> None:
    known = parts.representer
    shape = BackboneShape.of(known.encoder, known.space.sizes)
    backbone = FoundationBackbone(BackboneConfig(tasks="ctr_ctcvr"), shape, known.encoder.digest).freeze()
    reader = Representer(backbone, known.encoder, parts.store, known.layout, known.space)
    shown = reader.represent("u", ITEMS, HERE, 10.0)
    assert shown.cvr_live is not None
    conversions = LiveFeatures(known.layout, LiveConfig(half_lives_s=(2.0, 100.0)))
    conversions.update([outcome(shown, ITEMS, np.full(12, 0.3, dtype=np.float32), 10.0)])
    parts.store.push_live(as_conversions(conversions.take_changed()))
    after = reader.represent("u", ITEMS, HERE, 20.0)
    request = RequestItems(HERE, shown.content.numpy(), shown.values)
    assert after.cvr_live is not None
    assert after.cvr_live.numpy().tobytes() == conversions.features(20.0, "u", request, ITEMS).tobytes()
    assert not torch.equal(after.cvr_live, shown.cvr_live)
    assert torch.equal(after.live, shown.live)
    assert known.represent("u", ITEMS, HERE, 20.0).cvr_live is None


def test_the_user_is_represented_with_the_history_kept_by_the_processor(parts: Parts) -> None:
    known, spec = parts.representer, HistorySpec(3)
    config = BackboneConfig(user_encoder="sasrec", history_length=3)
    torch.manual_seed(5)
    shape = BackboneShape.of(known.encoder, known.space.sizes)
    backbone = FoundationBackbone(config, shape, known.encoder.digest).freeze()
    layout = replace(known.layout, history=spec)
    live = LiveFeatures(layout, LiveConfig())
    reader = Representer(backbone, known.encoder, parts.store, layout, known.space)
    before = reader.represent("u", ITEMS, HERE, 10.0)
    errors = np.array([0.5 if n % 3 == 0 else -0.5 for n in range(12)], dtype=np.float32)
    live.update([outcome(before, ITEMS, errors, 10.0)])
    parts.store.push_live(live.take_changed())
    after = reader.represent("u", ITEMS, HERE, 20.0)
    assert not torch.equal(after.x, before.x)
    assert torch.equal(after.content, before.content)
    profiles = {item.item_id: item for item in parts.store.read_items(ITEMS) if item is not None}
    items = {item_id: known.encoder.encode_item(item) for item_id, item in profiles.items()}
    user = known.encoder.encode_user(next(user for user in parts.store.read_users(["u"]) if user))
    history = known.encoder.history(live.history("u"), items, 20.0)
    with torch.inference_mode():
        x = backbone.represent(known.encoder.batch(user, [items[item] for item in ITEMS], (1, 1, 1), history))
    assert torch.equal(after.x, x.half().float())
    assert torch.equal(reader.represent("nobody", ITEMS, HERE, 20.0).x, reader.represent("nobody", ITEMS, HERE, 9.0).x)


def test_a_search_is_represented_as_the_backbone_reads_it_and_a_recommendation_without(parts: Parts) -> None:
    known = parts.representer
    torch.manual_seed(5)
    shape = BackboneShape.of(known.encoder, known.space.sizes)
    backbone = FoundationBackbone(BackboneConfig(query_aspects=("words",)), shape, known.encoder.digest)
    assert backbone.query is not None and backbone.query.words is not None
    torch.nn.init.normal_(backbone.query.words.weight)
    backbone.freeze()
    queries = QueryTexts(known.encoder, parts.store.config, by_text=False)
    reader = Representer(backbone, known.encoder, parts.store, known.layout, known.space, queries=queries)
    plain = reader.represent("u", ITEMS, HERE, 1.0)
    asked = reader.represent("u", ITEMS, HERE, 1.0, reader.query("film i3"))
    assert not torch.equal(asked.x, plain.x)
    assert torch.equal(asked.content, plain.content)
    assert np.array_equal(asked.values, plain.values)
    again = reader.represent("u", ITEMS, HERE, 1.0, reader.query("Film, i3!"))
    assert torch.equal(again.x, asked.x), "the same words are the same query"
    assert known.query("film i3") is None, "a backbone that reads none has none encoded"


def test_relevance_is_predicted_for_a_search_and_not_for_a_recommendation(parts: Parts) -> None:
    known = parts.representer
    torch.manual_seed(5)
    config = BackboneConfig(query_aspects=("words",), relevance_weight=1.0)
    backbone = FoundationBackbone(config, BackboneShape.of(known.encoder, known.space.sizes), known.encoder.digest)
    backbone.freeze()
    queries = QueryTexts(known.encoder, parts.store.config, by_text=False)
    reader = Representer(backbone, known.encoder, parts.store, known.layout, known.space, queries=queries)
    plain, asked = (reader.represent("u", ITEMS, HERE, 1.0, query) for query in (None, reader.query("film i3")))
    assert plain.relevance_logit is None and asked.relevance_logit is not None
    facets = torch.tensor([[1, 1, 1]]).expand(12, -1)
    every = backbone.predict_all(asked.x, facets)
    assert torch.equal(asked.relevance_logit, every[:, 2])
    assert torch.equal(asked.frozen_logit, every[:, 0])


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


def test_a_querys_text_is_encoded_once(text_encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = FeatureEncoder.fit([], [], user_fields=(), item_fields=(), text_width=text_encoder.width)
    queries = QueryTexts(encoder, FeatureConfig(), by_text=True)
    calls: list[str] = []

    def encode(texts: list[str]) -> Floats:
        calls.extend(texts)
        return text_encoder.encode(texts)

    monkeypatch.setattr(queries._text, "encode", encode)
    first, again, other = (queries.encode(text) for text in ("war films", "war films", "peace"))
    assert first is again and calls == ["war films", "peace"]
    assert np.linalg.norm(first.text) == pytest.approx(1.0, rel=1e-3)
    assert not np.array_equal(first.text, other.text)


def test_the_reported_size_of_a_cache_is_its_memory_use(parts: Parts) -> None:
    items = [f"stranger {number}" for number in range(3_000)]
    representer = parts.representer
    representer.represent("u", ["warm"], HERE, 0.0)
    representer.forget()
    gc.collect()
    tracemalloc.start()
    try:
        for start in range(0, len(items), 100):
            representer._profiles.items(items[start : start + 100])
        gc.collect()
        traced, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert representer._profiles._unknown.bytes == pytest.approx(traced, rel=0.25)

"""Live features of a request: those of the processor, per group, of conversions and of the user's history."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from features.config import LiveConfig
from features.live.features import LiveFeatures, RequestItems
from features.live.tasks import as_conversions
from features.represent import Representer
from model.backbone.foundation import FoundationBackbone
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig, HistorySpec
from tests.features.represent_parts import HERE, ITEMS, Parts, outcome


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

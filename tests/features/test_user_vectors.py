"""Two towers in the scorer: a user's vector is cached, and computed again when any of its inputs changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from features.config import FeatureConfig, LiveConfig
from features.live.features import LiveFeatures, LiveLayout
from features.live.layout import Crossing
from features.live.outcome import RequestOutcome
from features.profiles import ItemProfile, UserProfile
from features.represent import Representer
from features.represented import Represented
from features.store.feature_store import FeatureStore
from features.text import TextEncoder
from model.backbone.dssm import DssmBackbone
from model.backbone.interface import round_representation
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig
from model.encoding.domain import Domain, DomainSpace
from model.encoding.features import FeatureBatch, FeatureEncoder
from model.encoding.item_values import ItemValues

HERE, THERE = Domain("home", "north", "night"), Domain("home", "south", "night")
ITEMS = [f"i{n}" for n in range(6)]
SPACE = DomainSpace({"scene": ["home"], "region": ["north", "south"], "period": ["night"]})


class CountingTowers(DssmBackbone):
    """Counts how often vectors are made."""

    users = items = 0

    def user_vector(self, batch: FeatureBatch, statistics: torch.Tensor | None = None) -> torch.Tensor:
        self.users += 1
        return super().user_vector(batch, statistics)

    def item_vector(self, batch: FeatureBatch, statistics: torch.Tensor | None = None) -> torch.Tensor:
        self.items += len(batch)
        return super().item_vector(batch, statistics)


class Parts:
    """A scorer's feature reader with its store and backbone."""

    def __init__(
        self, encoder: FeatureEncoder, store: FeatureStore, towers: CountingTowers, layout: LiveLayout
    ) -> None:
        self.encoder, self.towers = encoder, towers
        self.now = 0.0
        self.reader = Representer(towers, encoder, store, layout, SPACE, now=lambda: self.now)
        self._live = LiveFeatures(layout, LiveConfig())

    def shown(self, user: str = "u", domain: Domain = HERE, time: float = 50.0) -> Represented:
        return self.reader.represent(user, ITEMS, domain, time)

    def x(self, user: str = "u", domain: Domain = HERE, time: float = 50.0) -> torch.Tensor:
        return self.shown(user, domain, time).x

    def made(self) -> int:
        """User vectors made since the last call."""
        made, self.towers.users = self.towers.users, 0
        return made

    def click(self, time: float) -> None:
        """The user clicks the first item, and the processor pushes what it knows."""
        shown = self.shown()
        click, residual = np.eye(1, len(ITEMS), dtype=np.float32)[0], np.zeros(len(ITEMS), dtype=np.float32)
        outcome = RequestOutcome("u", HERE, ITEMS, shown.content.numpy(), shown.values, click, residual, time)
        self._live.update([outcome])
        self.reader.store.push_live(self._live.take_changed())


@pytest.fixture
def store(tmp_path: Path, text_encoder: TextEncoder) -> FeatureStore:
    made = FeatureStore(FeatureConfig(), tmp_path, text=text_encoder)
    made.apply()
    made.write_users([UserProfile("u", 1.0, {"age": 30.0, "gender": "F", "occupation": "artist"})])
    made.write_items([
        ItemProfile(item, 1.0, f"film {item}", {"genres": ["Drama"], "year": 1990.0 + n})
        for n, item in enumerate(ITEMS)
    ])  # fmt: skip
    return made


def parts_of(store: FeatureStore, **changes: object) -> Parts:
    config = BackboneConfig(trunk="dssm", **changes)
    users, items = store.read_users(["u"]), store.read_items(ITEMS[:4])
    encoder = FeatureEncoder.fit(
        filter(None, users), filter(None, items), text_width=384,
        user_fields=store.config.user_fields, item_fields=store.config.item_fields,
    )  # fmt: skip
    torch.manual_seed(3)
    towers = CountingTowers(config, BackboneShape.of(encoder, SPACE.sizes), encoder.digest)
    towers.freeze()
    layout = LiveLayout.of(LiveConfig(), config.content_width, Crossing.of(ItemValues(encoder), SPACE), config.history)
    return Parts(encoder, store, towers, layout)


def test_representations_from_cached_vectors_equal_those_of_the_backbone(store: FeatureStore) -> None:
    parts = parts_of(store)
    user = parts.encoder.encode_user(next(filter(None, store.read_users(["u"]))))
    items = [parts.encoder.encode_item(item) for item in store.read_items(ITEMS) if item]
    with torch.inference_mode():
        batch = parts.encoder.batch(user, items, SPACE.encode(HERE))
        x = round_representation(parts.towers.represent(batch))
    for _ in range(2):
        shown = parts.shown()
        torch.testing.assert_close(shown.x, x, atol=2e-3, rtol=2e-3)
        assert torch.equal(shown.x, round_representation(shown.x))
        assert torch.equal(shown.frozen_logit, parts.towers.predict(shown.x, batch.domain)[:, 0])


def test_vectors_are_computed_once_for_all_requests_of_a_user_and_of_an_item(store: FeatureStore) -> None:
    parts = parts_of(store, user_encoder="pool", history_length=3)
    first = parts.x()
    assert (parts.towers.users, parts.towers.items) == (1, len(ITEMS))
    assert torch.equal(parts.x(time=60.0), first)
    assert (parts.towers.users, parts.towers.items) == (1, len(ITEMS))
    other = parts.x("nobody")
    assert (parts.towers.users, parts.towers.items) == (2, len(ITEMS))
    assert not torch.equal(other, first)
    assert torch.equal(other[:, 32:], first[:, 32:]), "an item is the same for everybody"


def test_a_user_vector_is_recomputed_when_any_of_its_inputs_changes(store: FeatureStore) -> None:
    parts = parts_of(store, user_encoder="pool", history_length=3)
    old = parts.x()
    assert parts.made() == 1
    there = parts.x(domain=THERE)
    assert parts.made() == 1
    assert not torch.equal(there, old)
    assert torch.equal(parts.x(), old)
    assert parts.made() == 0, "what is kept of one domain does not push out another's"
    parts.click(40.0)
    parts.made()
    clicked = parts.x()
    assert parts.made() == 1
    assert not torch.equal(clicked, old)
    store.write_users([UserProfile("u", 2.0, {"gender": "M"})])
    assert torch.equal(parts.x(), clicked)
    parts.now = FeatureConfig().user_cache_s + 1.0
    assert not torch.equal(parts.x(), clicked)
    assert parts.made() == 1
    parts.reader.forget()
    parts.x()
    assert parts.made() == 1


def test_an_item_vector_is_recomputed_when_its_profile_changes(store: FeatureStore) -> None:
    parts = parts_of(store)
    old = parts.x()
    store.write_items([ItemProfile("i0", 2.0, "another film", {"genres": ["Drama"]})])
    assert torch.equal(parts.x(), old)
    parts.now = FeatureConfig().item_cache_s + 1.0
    new = parts.x()
    assert not torch.equal(new[0, 32:], old[0, 32:])
    assert torch.equal(new[1:, 32:], old[1:, 32:])


def test_a_vector_that_depends_on_time_is_never_cached(store: FeatureStore) -> None:
    parts = parts_of(store, user_encoder="pool", history_length=3, history_gaps=True)
    parts.click(40.0)
    parts.made()
    soon, late = parts.x(time=41.0), parts.x(time=40_000.0)
    assert parts.made() == 2
    assert not torch.equal(soon, late)

"""Profiles of users and items as the models read them, from the feature store, cached until they expire."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from features.cache import Cache
from features.live.layout import Floats
from features.store.definitions import ITEM_PROFILE, USER_PROFILE
from features.store.feature_store import FeatureStore
from model.backbone.interface import FrozenBackbone, TwoTowers, round_representation
from model.encoding.features import EncodedItem, EncodedUser, FeatureEncoder
from model.encoding.item_values import ItemValues, Slots
from model.encoding.profile import ItemFeatures, UserFeatures

_VIEW_BYTES = 112  # memory of an array besides its numbers
_OBJECT_BYTES = 120

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ItemInputs:
    """What the models read of an item, known or not."""

    encoded: EncodedItem
    content: Floats
    values: Slots
    """`(S,)`."""
    vector: Floats
    """The item vector of a two-tower backbone, `(d / 2,)`, rounded; empty for other backbones."""


def _array_bytes(arrays: Sequence[NDArray[Any]]) -> int:
    return sum(sys.getsizeof(array) if array.base is None else array.nbytes + _VIEW_BYTES for array in arrays)


def user_bytes(user: EncodedUser) -> int:
    """Memory of an encoded user, bytes."""
    return _OBJECT_BYTES + _array_bytes((user.sparse, user.weight))


def item_bytes(item: ItemInputs) -> int:
    """Memory of an item, bytes; a view counts for its part of the array it looks into."""
    encoded = item.encoded
    arrays = (encoded.sparse, encoded.weight, encoded.text, item.content, item.values, item.vector)
    return 2 * _OBJECT_BYTES + _array_bytes(arrays)


class EncodedProfiles:
    """Reads and encodes profiles. Safe to use from several threads.

    An unknown user or item gets defaults (the out-of-vocabulary row, no fields, no text), and the store counts it.
    """

    def __init__(
        self, backbone: FrozenBackbone, encoder: FeatureEncoder, store: FeatureStore, now: Callable[[], float]
    ) -> None:
        """`now` is a clock in seconds, by which profiles expire."""
        self._backbone, self._encoder, self._store = backbone, encoder, store
        self._towers = backbone if isinstance(backbone, TwoTowers) else None
        config = store.config
        self._users: Cache[EncodedUser] = Cache(config.user_cache_bytes, config.user_cache_s, now, user_bytes)
        self._items: Cache[ItemInputs] = Cache(config.item_cache_bytes, config.item_cache_s, now, item_bytes)
        # Unknown items have a cache of their own, so that made-up ids cannot push out known items.
        self._unknown: Cache[ItemInputs] = Cache(config.item_cache_bytes // 8, config.user_cache_s, now, item_bytes)
        self._values = ItemValues(encoder)
        self._nobody = encoder.encode_user(UserFeatures("", {}))
        self._text_refused = False

    def user(self, user_id: str) -> EncodedUser:
        """The user's encoded profile; an unknown user has none of the fields."""
        cached = self._users.get(user_id)
        if cached is None:
            profile = self._store.read_users([user_id])[0] or UserFeatures(user_id, {})
            cached = self._encoder.encode_user(profile)
            self._count_values(USER_PROFILE, cached)
            self._users.put(user_id, cached)
        return cached

    def items(self, item_ids: Sequence[str]) -> dict[str, ItemInputs]:
        """Items by id; an unknown one has the out-of-vocabulary row, no fields and no text."""
        items: dict[str, ItemInputs] = {}
        missing: list[str] = []
        for item_id in dict.fromkeys(item_ids):
            cached = self._items.get(item_id) or self._unknown.get(item_id)
            if cached is None:
                missing.append(item_id)
            else:
                items[item_id] = cached
        profiles = self._store.read_items(missing)
        encoded = [self._encode(key, profile) for key, profile in zip(missing, profiles, strict=True)]
        for key, profile, item in zip(missing, profiles, self._with_content(encoded), strict=True):
            (self._unknown if profile is None else self._items).put(key, item)
            items[key] = item
        return items

    def _encode(self, item_id: str, profile: ItemFeatures | None) -> EncodedItem:
        known = profile or ItemFeatures(item_id, {}, np.zeros(0, dtype=np.float32))
        text = known.text
        if text.shape != (self._encoder.text_width,):
            if text.size and not self._text_refused:
                self._text_refused = True
                log.warning(
                    "text vectors in the store have width %d, the backbone was trained with %d: they are left out; "
                    "set DRIFTLINE_FEATURES__TEXT_MODEL to the model of the pretraining and write the items again",
                    text.size,
                    self._encoder.text_width,
                )
            text = np.zeros(self._encoder.text_width, dtype=np.float32)
        encoded = self._encoder.encode_item(ItemFeatures(known.item_id, known.fields, text))
        self._count_values(ITEM_PROFILE, encoded)
        return encoded

    def _count_values(self, view: str, encoded: EncodedUser | EncodedItem) -> None:
        """Counts values that encoding could not use: a misspelt category costs accuracy without any other sign."""
        self._store.defaulted(view, "unknown_value", encoded.unknown_values)
        self._store.defaulted(view, "cut_value", encoded.cut_values)

    def _with_content(self, items: Sequence[EncodedItem]) -> list[ItemInputs]:
        """Adds what the backbone computes from the item alone, which is cached with it (docs/decisions/0026, 0123)."""
        if not items:
            return []
        with torch.inference_mode():
            batch = self._encoder.batch(self._nobody, items, (0, 0, 0))
            content = round_representation(self._backbone.content(batch)).numpy()
            vectors = np.zeros((len(items), 0), dtype=np.float32)
            if self._towers is not None:
                vectors = round_representation(self._towers.item_vector(batch)).numpy()
        values = self._values.of_items(items)
        return [ItemInputs(*parts) for parts in zip(items, content, values, vectors, strict=True)]

    def clear(self) -> None:
        """Drops all profiles, so that the next request reads them again."""
        for cache in (self._users, self._items, self._unknown):
            cache.clear()

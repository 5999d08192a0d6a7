"""Turns ids into the arms' inputs: profiles and live rows from the store, the representation from the backbone."""

from __future__ import annotations

import logging
import sys
import time as clock
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.cache import Cache
from features.config import FeatureConfig
from features.live.history import HISTORY, read_history
from features.live.layout import OVERALL, Floats, Kind, LiveLayout, LiveRow
from features.live.read import RequestItems, assemble
from features.live.tasks import conversion_kind
from features.queries import QueryTexts
from features.store.definitions import ITEM_PROFILE, USER_PROFILE
from features.store.feature_store import FeatureStore
from features.user_vectors import UserState, UserVectors
from model.backbone.interface import FrozenBackbone, predicts_relevance, round_representation
from model.encoding.domain import Domain, DomainSpace
from model.encoding.features import EncodedItem, EncodedUser, FeatureBatch, FeatureEncoder, stacked
from model.encoding.item_values import ItemValues, Slots
from model.encoding.profile import HistoryEvent, ItemFeatures, UserFeatures
from model.encoding.query import EncodedQuery
from model.kernel.features import KernelInputs

_VIEW_BYTES = 112  # memory of an array besides its numbers
_OBJECT_BYTES = 120

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Represented:
    """One request of `n` items, ready to be scored and logged. All float32."""

    x: Tensor
    """Fused representation, `(n, d)`, rounded to float16 once and back."""
    live: Tensor
    """Live features at the request's time, `(n, k)`."""
    content: Tensor
    """Content vectors of the items, `(n, c)`, rounded like `x`."""
    values: Slots
    """Values of the items' crossed fields, int16 `(n, S)`."""
    frozen_logit: Tensor
    """Click logit of the frozen backbone on the rounded `x`, `(n,)`."""
    cvr_logit: Tensor | None = None
    """The frozen backbone's logit of a conversion given a click, `(n,)`; None for a backbone without conversions."""
    cvr_live: Tensor | None = None
    """Live features of conversions, `(n, k)`; None for a backbone without conversions."""
    relevance_logit: Tensor | None = None
    """Logit of the item's relevance to the query, `(n,)`; None without a query, or for a backbone without relevance."""

    @property
    def inputs(self) -> KernelInputs:
        """The inputs of a kernel of clicks."""
        return KernelInputs(self.x, self.live, torch.from_numpy(self.values), self.frozen_logit)

    @property
    def conversion_inputs(self) -> KernelInputs | None:
        """The inputs of a kernel of conversions; None for a backbone without conversions."""
        if self.cvr_live is None or self.cvr_logit is None:
            return None
        return KernelInputs(self.x, self.cvr_live, torch.from_numpy(self.values), self.cvr_logit)

    def finite(self) -> Tensor:
        """Mask of the rows whose scored and logged values are all finite, bool `(n,)`."""
        columns = [column.reshape(len(self.x), -1) for column in self._tensors().values()]
        return torch.isfinite(torch.cat(columns, dim=1)).all(dim=1)

    def rows(self, kept: Tensor) -> Represented:
        """The rows where the mask `kept`, bool `(n,)`, is true."""
        tensors = {name: column[kept] for name, column in self._tensors().items()}
        return Represented(**tensors, values=self.values[kept.numpy()])

    @staticmethod
    def joined(parts: Sequence[Represented]) -> Represented:
        """The items of all parts of one request, in order."""
        if len(parts) == 1:
            return parts[0]
        columns = [part._tensors() for part in parts]
        tensors = {name: torch.cat([own[name] for own in columns]) for name in columns[0]}
        return Represented(**tensors, values=np.concatenate([part.values for part in parts]))

    def _tensors(self) -> dict[str, Tensor]:
        """The tensors that there are, by name."""
        return {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}


@dataclass(frozen=True, slots=True)
class _Item:
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


def item_bytes(item: _Item) -> int:
    """Memory of an item, bytes; a view counts for its part of the array it looks into."""
    encoded = item.encoded
    arrays = (encoded.sparse, encoded.weight, encoded.text, item.content, item.values, item.vector)
    return 2 * _OBJECT_BYTES + _array_bytes(arrays)


class Representer:
    """Reads features and runs the frozen backbone. Safe to use from several threads.

    Profiles of items and users are cached for the configured times; live rows are read for every request
    (docs/decisions/0026). An unknown user or item gets defaults (the out-of-vocabulary row, no fields, no text), and
    the store counts it.
    """

    def __init__(
        self,
        backbone: FrozenBackbone,
        encoder: FeatureEncoder,
        store: FeatureStore,
        layout: LiveLayout,
        space: DomainSpace,
        *,
        scope_of: Callable[[Domain], str] | None = None,
        queries: QueryTexts | None = None,
        now: Callable[[], float] = clock.monotonic,
    ) -> None:
        """`scope_of` gives the scope of a domain's live rows, which is its kernel group; `queries` encodes queries, for
        a backbone that reads them; `now` is a clock in seconds.

        Raises ValueError for a layout of another content width than the backbone's.
        """
        if layout.content_width != backbone.content_width:
            raise ValueError(
                f"the live features expect content vectors of width {layout.content_width}, the backbone's have "
                f"{backbone.content_width}: make the layout with LiveLayout.of(config, backbone.content_width)"
            )
        self.backbone, self.encoder, self.store, self.layout, self.space = backbone, encoder, store, layout, space
        config: FeatureConfig = store.config
        self._scope_of = scope_of or _one_scope
        self._users: Cache[EncodedUser] = Cache(config.user_cache_bytes, config.user_cache_s, now, user_bytes)
        self._items: Cache[_Item] = Cache(config.item_cache_bytes, config.item_cache_s, now, item_bytes)
        # Unknown items have a cache of their own, so that made-up ids cannot push out known items.
        self._unknown: Cache[_Item] = Cache(config.item_cache_bytes // 8, config.user_cache_s, now, item_bytes)
        self._user_vectors = UserVectors.of(backbone, config, now)
        self._values = ItemValues(encoder)
        self._queries = queries
        self._relevance = backbone.predict_all if predicts_relevance(backbone) else None
        self._nobody = encoder.encode_user(UserFeatures("", {}))
        self._text_refused = False

    @property
    def reads_queries(self) -> bool:
        """Whether requests may carry a query."""
        return self._queries is not None

    def knows_query(self, text: str) -> bool:
        """Whether `query` answers at once: this one is kept, or none is read by its text."""
        return self._queries is None or self._queries.knows(text)

    def query(self, text: str) -> EncodedQuery | None:
        """Encodes a request's query; None if the backbone reads none. Raises TextModelUnavailableError."""
        return None if self._queries is None else self._queries.encode(text)

    def represent(
        self,
        user_id: str,
        item_ids: Sequence[str],
        domain: Domain,
        time: float,
        query: EncodedQuery | None = None,
    ) -> Represented:
        """The arms' inputs for `n` items, for this user at event time `time` (seconds); without a query the request is
        a recommendation.

        Raises ValueError for an empty list, StoreUnavailableError when the store cannot be read.
        """
        if not item_ids:
            raise ValueError(f"request of user {user_id!r}: there is no item to represent")
        events = self._events(user_id, domain, time)
        by_id = self._read_items([*item_ids, *(event.item_id for event in events)])
        items = [by_id[item_id] for item_id in item_ids]
        facets = self.space.encode(domain)
        encoded = {item_id: item.encoded for item_id, item in by_id.items()}
        user = self._user(user_id)

        def batch(of: Sequence[_Item]) -> FeatureBatch:
            history = self.encoder.history(events, encoded, time) if self.layout.history.length else None
            return self.encoder.batch(user, [item.encoded for item in of], facets, history, query)

        content, values = stacked([item.content for item in items]), stacked([item.values for item in items])
        request_items = RequestItems(domain, content, values)
        live = torch.from_numpy(self.live(user_id, item_ids, request_items, time))
        with torch.inference_mode():
            if self._user_vectors is None:
                x = round_representation(self.backbone.represent(batch(items)))
            else:
                state = UserState(user, facets, tuple(events))
                mine = self._user_vectors.vector(user_id, state, lambda: batch(items[:1]))
                vectors = torch.from_numpy(stacked([item.vector for item in items]))
                x = torch.cat([mine.expand(len(items), -1), vectors], dim=1)
            logits = self._logits(x, facets, searches=query is not None)
        made = Represented(x=x, live=live, content=torch.from_numpy(content), values=values, **logits)
        if not self.backbone.has_conversion:
            return made
        cvr_live = torch.from_numpy(self.live(user_id, item_ids, request_items, time, conversion_kind))
        return replace(made, cvr_live=cvr_live)

    def _logits(self, x: Tensor, facets: tuple[int, int, int], *, searches: bool) -> dict[str, Tensor]:
        """The logits that the backbone predicts of `x` `(n, d)`, by their names in `Represented`."""
        rows = torch.tensor([facets], dtype=torch.int64).expand(len(x), -1)
        predict = self._relevance if searches and self._relevance is not None else self.backbone.predict
        frozen, cvr, *relevance = predict(x, rows).unbind(1)
        logits = {"frozen_logit": frozen} | ({"cvr_logit": cvr} if self.backbone.has_conversion else {})
        return logits | ({"relevance_logit": relevance[0]} if relevance else {})

    def _events(self, user_id: str, domain: Domain, time: float) -> list[HistoryEvent]:
        """The user's recent events, oldest first; empty if the backbone reads none."""
        if not self.layout.history.length:
            return []
        row = self.store.read_live(HISTORY, [user_id], time, self._scope_of(domain))[0]
        return read_history(row)

    def live(
        self,
        user_id: str,
        item_ids: Sequence[str],
        request: RequestItems,
        time: float,
        kind_of: Callable[[Kind], Kind] = lambda kind: kind,
    ) -> Floats:
        """The live features from rows in the store, float32 `(n, k)`; `kind_of` maps plain kinds to stored kinds.

        Raises StoreUnavailableError.
        """
        domain = request.domain
        scope = self._scope_of(domain)

        def read(kind: Kind, keys: Sequence[str], now: float, of_group: str) -> list[LiveRow | None]:
            return self.store.read_live(kind_of(kind), keys, now, of_group)

        here, overall = read("domain", [domain.key, OVERALL], time, scope)
        return assemble(
            self.layout,
            time,
            request,
            user=read("user", [user_id], time, scope)[0],
            domain=here,
            overall=overall,
            facets=read("facet", self.layout.crossing.facet_keys(domain), time, scope),
            items=read("item", item_ids, time, scope),
        )

    def forget(self) -> None:
        """Empties the caches, so that the next request reads every profile again."""
        for cache in (self._users, self._items, self._unknown, self._user_vectors):
            if cache is not None:
                cache.clear()

    def _user(self, user_id: str) -> EncodedUser:
        cached = self._users.get(user_id)
        if cached is None:
            profile = self.store.read_users([user_id])[0] or UserFeatures(user_id, {})
            cached = self.encoder.encode_user(profile)
            self._count_values(USER_PROFILE, cached)
            self._users.put(user_id, cached)
        return cached

    def _read_items(self, item_ids: Sequence[str]) -> dict[str, _Item]:
        items: dict[str, _Item] = {}
        missing: list[str] = []
        for item_id in dict.fromkeys(item_ids):
            cached = self._items.get(item_id) or self._unknown.get(item_id)
            if cached is None:
                missing.append(item_id)
            else:
                items[item_id] = cached
        profiles = self.store.read_items(missing)
        encoded = [self._encode(key, profile) for key, profile in zip(missing, profiles, strict=True)]
        for key, profile, item in zip(missing, profiles, self._with_content(encoded), strict=True):
            (self._unknown if profile is None else self._items).put(key, item)
            items[key] = item
        return items

    def _encode(self, item_id: str, profile: ItemFeatures | None) -> EncodedItem:
        known = profile or ItemFeatures(item_id, {}, np.zeros(0, dtype=np.float32))
        text = known.text
        if text.shape != (self.encoder.text_width,):
            if text.size and not self._text_refused:
                self._text_refused = True
                log.warning(
                    "text vectors in the store have width %d, the backbone was trained with %d: they are left out; "
                    "set DRIFTLINE_FEATURES__TEXT_MODEL to the model of the pretraining and write the items again",
                    text.size,
                    self.encoder.text_width,
                )
            text = np.zeros(self.encoder.text_width, dtype=np.float32)
        encoded = self.encoder.encode_item(ItemFeatures(known.item_id, known.fields, text))
        self._count_values(ITEM_PROFILE, encoded)
        return encoded

    def _count_values(self, view: str, encoded: EncodedUser | EncodedItem) -> None:
        """Counts values that encoding could not use: a misspelt category costs accuracy without any other sign."""
        self.store.counted(view, "unknown_value", encoded.unknown_values)
        self.store.counted(view, "cut_value", encoded.cut_values)

    def _with_content(self, items: Sequence[EncodedItem]) -> list[_Item]:
        """Adds what the backbone computes from the item alone, which is cached with it (docs/decisions/0026, 0123)."""
        if not items:
            return []
        with torch.inference_mode():
            batch = self.encoder.batch(self._nobody, items, (0, 0, 0))
            content = round_representation(self.backbone.content(batch)).numpy()
            vectors = np.zeros((len(items), 0), dtype=np.float32)
            if self._user_vectors is not None:
                vectors = round_representation(self._user_vectors.towers.item_vector(batch)).numpy()
        values = self._values.of_items(items)
        return [_Item(*parts) for parts in zip(items, content, values, vectors, strict=True)]


def _one_scope(_domain: Domain) -> str:
    return ""

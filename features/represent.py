"""Turns ids into the arms' inputs: profiles and live rows from the store, the representation from the backbone."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from features.encoded_profiles import EncodedProfiles, ItemInputs
from features.live.history import HISTORY, read_history
from features.live.layout import OVERALL, Floats, Kind, LiveLayout, LiveRow
from features.live.read import RequestItems, assemble
from features.live.tasks import conversion_kind
from features.queries import QueryTexts
from features.represented import Represented
from features.store.feature_store import FeatureStore
from features.user_vectors import UserState, UserVectors
from model.backbone.interface import FrozenBackbone, predicts_relevance, round_representation
from model.encoding.domain import Domain, DomainSpace
from model.encoding.features import FeatureBatch, FeatureEncoder, stacked
from model.encoding.profile import HistoryEvent
from model.encoding.query import EncodedQuery


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
        self._scope_of = scope_of or _one_scope
        self._profiles = EncodedProfiles(backbone, encoder, store, now)
        self._user_vectors = UserVectors.of(backbone, store.config, now)
        self._queries = queries
        self._relevance = backbone.predict_all if predicts_relevance(backbone) else None

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
        by_id = self._profiles.items([*item_ids, *(event.item_id for event in events)])
        items = [by_id[item_id] for item_id in item_ids]
        facets = self.space.encode(domain)
        encoded = {item_id: item.encoded for item_id, item in by_id.items()}
        user = self._profiles.user(user_id)

        def batch(of: Sequence[ItemInputs]) -> FeatureBatch:
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
        self._profiles.clear()
        if self._user_vectors is not None:
            self._user_vectors.clear()


def _one_scope(_domain: Domain) -> str:
    return ""

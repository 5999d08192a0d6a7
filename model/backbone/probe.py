"""Made-up rows that cover the edges of a backbone's tables, and ways to cut a batch; the checks run on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.config import NO_QUERY, BackboneConfig
from model.encoding.features import EncodedItem, FeatureBatch, FeatureEncoder
from model.encoding.history import PAD, History
from model.encoding.profile import HistoryEvent, ItemFeatures, UserFeatures
from model.encoding.query import EncodedQuery, Queries
from model.encoding.spelling import FieldValue
from model.encoding.vocabulary import FieldEncoder

_ENTITIES = 16
_PER_USER = ("user", "user_sparse", "user_weight", "domain")
"""Tensors of a batch that have one row per user."""


def probe_batch(encoder: FeatureEncoder, domain_sizes: tuple[int, int, int], config: BackboneConfig) -> FeatureBatch:
    """Rows over unknown, first and last users, items and field values, and over every facet value; the same each time.

    There are as many rows as the largest facet has values, at least 16, each with a user of its own (`u = n`). The
    unknown item's text vector is zero, as in serving. Histories, if the backbone reads any, are empty, half full and
    full; two of three rows have a query.
    """
    generator = np.random.default_rng(0)
    profiles = _entities(encoder.users.values, encoder.user_fields)
    users = [encoder.encode_user(UserFeatures(name, values)) for name, values in profiles]
    items = []
    for name, values in _entities(encoder.items.values, encoder.item_fields):
        text = generator.normal(size=encoder.text_width).astype(np.float32)
        text = text / np.linalg.norm(text) if name else np.zeros_like(text)
        items.append(encoder.encode_item(ItemFeatures(name, values, text)))
    size = max(_ENTITIES, *domain_sizes)
    parts = []
    for row in range(size):
        scene, region, period = (row % count for count in domain_sizes)
        # Users advance more slowly than items, so that the pairs differ where there are more rows than entities.
        user, item = users[(row + row // _ENTITIES) % _ENTITIES], items[row % _ENTITIES]
        past = _history(encoder, items, row, config.history.length) if config.history.length else None
        parts.append(encoder.batch(user, [item], (scene, region, period), past))
    together = _side_by_side(parts)
    return replace(together, query=_queries(encoder, size)) if config.query_aspects else together


def _queries(encoder: FeatureEncoder, size: int) -> Queries:
    """Queries of the rows: one word, two words and none, in turn."""
    text = np.eye(2, encoder.text_width, dtype=np.float32)
    known = [EncodedQuery.of("query " * (1 + place), vector) for place, vector in enumerate(text)]
    turn = torch.arange(size) % 3
    return Queries.table(known, encoder.text_width).asked(torch.where(turn < 2, turn, NO_QUERY))


def _history(encoder: FeatureEncoder, items: Sequence[EncodedItem], row: int, length: int) -> History:
    """A history of `length` places, of which none, half or all are used in turn; a third of its events are skips."""
    by_name = {str(place): item for place, item in enumerate(items)}
    events = [HistoryEvent(str((row + place) % len(items)), 60.0 * place, place % 3 > 0) for place in range(length)]
    full = encoder.history(events, by_name, 60.0 * length)
    used = torch.arange(length) < (row % 3) * length / 2
    return replace(full, event=full.event.where(used, PAD))


def _entities(names: Sequence[str], encoders: Sequence[FieldEncoder]) -> list[tuple[str, dict[str, FieldValue]]]:
    """Sixteen profiles: the unknown one, then known ones whose names and field values run from the first to the
    last."""
    profiles: list[tuple[str, dict[str, FieldValue]]] = [("", {})]
    for share in np.linspace(0, 1, _ENTITIES - 1):
        values = {field.spec.name: _value(field, float(share)) for field in encoders}
        known: dict[str, FieldValue] = {name: value for name, value in values.items() if value is not None}
        profiles.append((_pick(names, float(share)) or "unknown", known))
    return profiles


def _pick(values: Sequence[str], share: float) -> str | None:
    return values[round(share * (len(values) - 1))] if values else None


def _value(field: FieldEncoder, share: float) -> FieldValue | None:
    if field.spec.kind == "number":
        low, high = (field.edges[0] - 1, field.edges[-1] + 1) if field.edges else (0.0, 1.0)
        return low + share * (high - low)
    value = _pick(field.vocabulary.values, share)
    return [value] if value is not None and field.spec.kind == "multi" else value


def _side_by_side(batches: Sequence[FeatureBatch]) -> FeatureBatch:
    first, histories = batches[0], [batch.history for batch in batches if batch.history is not None]
    columns: dict[str, Any] = {name: torch.cat([getattr(b, name) for b in batches]) for name in _columns(first)}
    return replace(first, **columns, history=History.side_by_side(histories) if histories else None)


def _columns(batch: FeatureBatch) -> list[str]:
    """Names of the tensors that the batch has."""
    return [field.name for field in fields(batch) if isinstance(getattr(batch, field.name), Tensor)]


def with_user_per_item(batch: FeatureBatch) -> FeatureBatch:
    """The same pairs with the user's row repeated for every item, `u = n`."""
    n = len(batch)
    changed: dict[str, Any] = {name: getattr(batch, name) for name in _PER_USER}
    changed = {name: value.expand(n, *value.shape[1:]) for name, value in changed.items()}
    return replace(
        batch, **changed,
        history=batch.history and replace(batch.history, of=batch.history.of.expand(n)),
        query=batch.query and batch.query.repeated(n),
    )  # fmt: skip


def rows(batch: FeatureBatch, index: Tensor) -> FeatureBatch:
    """Copies of the pairs `index`, int64 `(m,)`, of a batch with a user per item."""
    columns = {name: getattr(batch, name)[index] for name in _columns(batch)}
    return replace(batch, **columns, **_shared(batch, index))


def with_user_of(batch: FeatureBatch, index: Tensor) -> FeatureBatch:
    """The same items for the users, domains, histories and queries of the rows `index`, `(u,)`."""
    changed = {name: value[index] for name in _PER_USER if (value := getattr(batch, name)) is not None}
    return replace(batch, **changed, **_shared(batch, index))


def _shared(batch: FeatureBatch, index: Tensor) -> dict[str, Any]:
    """Histories and queries of the pairs `index`, where the batch has them."""
    return {
        "history": batch.history and batch.history.pairs(index),
        "query": batch.query and batch.query.pairs(index),
    }

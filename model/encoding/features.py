"""Encoding of profiles as tensors: the backbone's input for one user and the items shown to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.config import FieldSpec
from model.encoding.history import History
from model.encoding.profile import HistoryEvent, ItemFeatures, UserFeatures
from model.encoding.query import EncodedQuery, Queries, QueryFeatures
from model.encoding.vocabulary import FieldEncoder, Vocabulary, encode_fields


@dataclass(frozen=True, slots=True)
class EncodedUser:
    """Table rows of one user: id, field values and their weights."""

    row: int
    sparse: NDArray[np.int64]
    weight: NDArray[np.float32]
    unknown_values: int = 0
    """Field values that pretraining did not see."""
    cut_values: int = 0
    """Field values beyond `max_values`."""


@dataclass(frozen=True, slots=True)
class EncodedItem:
    """Table rows and text vector of one item."""

    row: int
    sparse: NDArray[np.int64]
    weight: NDArray[np.float32]
    text: NDArray[np.float32]
    unknown_values: int = 0
    cut_values: int = 0


@dataclass(frozen=True)
class FeatureBatch:
    """`n` items, each for one of `u` users; `u` is 1 (one request) or `n` (training).

    S are the slots of the sparse fields, t the text width.
    """

    user: Tensor
    """Row in the user table, int64 `(u,)`."""
    user_sparse: Tensor
    """Rows in the user side's sparse table, int64 `(u, S_user)`."""
    user_weight: Tensor
    """Weights of those rows, float32 `(u, S_user)`."""
    item: Tensor
    """Row in the item table, int64 `(n,)`."""
    item_sparse: Tensor
    item_weight: Tensor
    text: Tensor
    """Text vectors of the items, float32 `(n, t)`."""
    domain: Tensor
    """Facet indices, int64 `(u, 3)`."""
    history: History | None = None
    """The users' recent events; None for a backbone that does not read them."""
    query: Queries | None = None
    """The users' queries; None for a backbone that does not read them, and where no request has one."""

    def __len__(self) -> int:
        return int(self.item.shape[0])


class FeatureEncoder:
    """Vocabularies and buckets of the pretraining window. An unknown value takes its table's out-of-vocabulary row."""

    def __init__(
        self,
        users: Vocabulary,
        items: Vocabulary,
        user_fields: Sequence[FieldEncoder],
        item_fields: Sequence[FieldEncoder],
        *,
        text_width: int,
    ) -> None:
        self.users, self.items = users, items
        self.user_fields, self.item_fields = tuple(user_fields), tuple(item_fields)
        self.text_width = text_width

    @classmethod
    def fit(
        cls,
        users: Iterable[UserFeatures],
        items: Iterable[ItemFeatures],
        *,
        user_fields: Sequence[FieldSpec],
        item_fields: Sequence[FieldSpec],
        text_width: int,
    ) -> FeatureEncoder:
        """Learns vocabularies and buckets from these users and items, which are those that pretraining sees."""
        users, items = list(users), list(items)
        return cls(
            Vocabulary(sorted({user.user_id for user in users})),
            Vocabulary(sorted({item.item_id for item in items})),
            [FieldEncoder.fit(s, [u.fields[s.name] for u in users if s.name in u.fields]) for s in user_fields],
            [FieldEncoder.fit(s, [i.fields[s.name] for i in items if s.name in i.fields]) for s in item_fields],
            text_width=text_width,
        )

    def grown(self, users: Iterable[UserFeatures], items: Iterable[ItemFeatures]) -> FeatureEncoder:
        """A copy with rows for users, items and field values that came later; old rows keep their numbers."""
        users, items = list(users), list(items)

        def fields(encoders: Sequence[FieldEncoder], of: Sequence[UserFeatures | ItemFeatures]) -> list[FieldEncoder]:
            return [f.grown([p.fields[f.spec.name] for p in of if f.spec.name in p.fields]) for f in encoders]

        return FeatureEncoder(
            self.users.grown(user.user_id for user in users),
            self.items.grown(item.item_id for item in items),
            fields(self.user_fields, users),
            fields(self.item_fields, items),
            text_width=self.text_width,
        )

    def encode_user(self, user: UserFeatures) -> EncodedUser:
        """Rows of a user."""
        own = encode_fields(self.user_fields, user.fields)
        return EncodedUser(self.users.row(user.user_id), own.rows, own.weights, own.unknown, own.cut)

    def encode_item(self, item: ItemFeatures) -> EncodedItem:
        """Rows of an item. Raises ValueError for a text vector of another width or with non-finite values."""
        text = np.ascontiguousarray(item.text, dtype=np.float32)
        if text.shape != (self.text_width,):
            raise ValueError(
                f"item {item.item_id!r}: text vector has shape {text.shape}, expected ({self.text_width},)"
            )
        if not np.isfinite(text).all():
            raise ValueError(f"item {item.item_id!r}: text vector has non-finite values")
        own = encode_fields(self.item_fields, item.fields)
        return EncodedItem(self.items.row(item.item_id), own.rows, own.weights, text, own.unknown, own.cut)

    def encode_query(self, query: QueryFeatures) -> EncodedQuery:
        """Rows of a query. Raises ValueError for a text vector of another width or with non-finite values."""
        if query.text.shape != (self.text_width,):
            raise ValueError(
                f"query {query.query!r}: text vector has shape {query.text.shape}, expected ({self.text_width},)"
            )
        return EncodedQuery.of(query.query, query.text)

    def history(self, events: Sequence[HistoryEvent], items: Mapping[str, EncodedItem], now: float) -> History:
        """One user's events, oldest first, as a request at `now` (seconds) sees them; `items` has all that occur."""
        known = {item_id: place for place, item_id in enumerate(dict.fromkeys(event.item_id for event in events))}
        text = [items[item_id].text for item_id in known]
        return History(
            row=torch.tensor([items[item_id].row for item_id in known], dtype=torch.int64),
            text=torch.from_numpy(np.stack(text) if text else np.zeros((0, self.text_width), dtype=np.float32)),
            event=torch.tensor([[known[event.item_id] for event in events]], dtype=torch.int64),
            age=torch.tensor([[now - event.time for event in events]], dtype=torch.float32),
            clicked=torch.tensor([[int(event.clicked) for event in events]], dtype=torch.int64),
            of=torch.zeros(1, dtype=torch.int64),
        )

    def batch(
        self,
        user: EncodedUser,
        items: Sequence[EncodedItem],
        domain: tuple[int, int, int],
        history: History | None = None,
        query: EncodedQuery | None = None,
    ) -> FeatureBatch:
        """One user and `n` items. Raises ValueError for an empty list."""
        if not items:
            raise ValueError("a feature batch needs at least one item")
        return FeatureBatch(
            user=torch.tensor([user.row]),
            user_sparse=torch.from_numpy(user.sparse)[None],
            user_weight=torch.from_numpy(user.weight)[None],
            item=torch.tensor([item.row for item in items]),
            item_sparse=torch.from_numpy(stacked([item.sparse for item in items])),
            item_weight=torch.from_numpy(stacked([item.weight for item in items])),
            text=torch.from_numpy(stacked([item.text for item in items])),
            domain=torch.tensor([domain]),
            history=history,
            query=None if query is None else Queries.one(query),
        )

    @property
    def user_rows(self) -> int:
        """Rows of the user side's sparse table."""
        return sum(field.rows for field in self.user_fields)

    @property
    def item_rows(self) -> int:
        """Rows of the item side's sparse table."""
        return sum(field.rows for field in self.item_fields)

    def to_json(self) -> dict[str, Any]:
        """All that `from_json` needs."""
        return {
            "users": list(self.users.values),
            "items": list(self.items.values),
            "user_fields": [field.to_json() for field in self.user_fields],
            "item_fields": [field.to_json() for field in self.item_fields],
            "text_width": self.text_width,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FeatureEncoder:
        """The inverse of `to_json`."""
        return cls(
            Vocabulary(data["users"]),
            Vocabulary(data["items"]),
            [FieldEncoder.from_json(field) for field in data["user_fields"]],
            [FieldEncoder.from_json(field) for field in data["item_fields"]],
            text_width=data["text_width"],
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the encoder's content, hexadecimal."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()


def stacked(rows: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """One-dimensional arrays of one length as rows, `(len(rows), length)`: `np.stack` takes five times as long."""
    return np.concatenate(rows).reshape(len(rows), len(rows[0]))

"""Examples for pretraining and the profiles they refer to, as tensors that are gathered batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.backbone.examples import Examples
from model.backbone.past import past_events
from model.config import NO_HISTORY, HistorySpec
from model.encoding.features import FeatureBatch, FeatureEncoder
from model.encoding.history import PAD, History, PastEvents
from model.encoding.profile import ItemFeatures, UserFeatures
from model.encoding.query import Queries, QueryFeatures


class TooFewExamplesError(ValueError):
    """The examples are too few: the training or the validation part would be empty."""


def validation_cut(examples: Examples, share: float) -> int:
    """Where the last `share` of the examples begins. Raises TooFewExamplesError if either side would be empty."""
    cut = round(len(examples) * (1 - share))
    if not 0 < cut < len(examples):
        raise TooFewExamplesError(
            f"{len(examples)} examples are too few to pretrain on: with pretrain.validation_share {share:g} none would "
            f"be left to {'validate' if cut else 'train'}; bring more data for the pretraining half"
        )
    return cut


class ProfileTable:
    """All profiles encoded once."""

    def __init__(
        self,
        encoder: FeatureEncoder,
        users: Sequence[UserFeatures],
        items: Sequence[ItemFeatures],
        queries: Sequence[QueryFeatures] = (),
    ) -> None:
        encoded_users = [encoder.encode_user(user) for user in users]
        encoded_items = [encoder.encode_item(item) for item in items]
        self.user = torch.tensor([user.row for user in encoded_users], dtype=torch.int64)
        self.user_sparse = _stack([user.sparse for user in encoded_users])
        self.user_weight = _stack([user.weight for user in encoded_users])
        self.item = torch.tensor([item.row for item in encoded_items], dtype=torch.int64)
        self.item_sparse = _stack([item.sparse for item in encoded_items])
        self.item_weight = _stack([item.weight for item in encoded_items])
        self.text = _stack([item.text for item in encoded_items])
        self.queries = Queries.table([encoder.encode_query(query) for query in queries], encoder.text_width)

    def history(self, past: PastEvents, index: Tensor) -> History:
        """The histories of the pairs `index`, int64 `(n,)`."""
        moment, of = np.unique(past.moment[index.numpy()], return_inverse=True)
        at, event = torch.unique(torch.from_numpy(past.item[moment]).long(), return_inverse=True)
        if len(at) and at[0] == PAD:
            at, event = at[1:], event - 1
        return History(
            row=self.item[at],
            text=self.text[at],
            event=event,
            age=torch.from_numpy(past.age[moment]),
            clicked=torch.from_numpy(past.clicked[moment]).long(),
            of=torch.from_numpy(of.reshape(-1)),
        )

    def batch(
        self,
        user: Tensor,
        item: Tensor,
        domain: Tensor,
        history: History | None = None,
        query: Tensor | None = None,
    ) -> FeatureBatch:
        """The features of `n` pairs, by positions `(n,)` and facet indices `(n, 3)`.

        Without `query`, or in a table that holds no queries, the batch has none.
        """
        return FeatureBatch(
            user=self.user[user],
            user_sparse=self.user_sparse[user],
            user_weight=self.user_weight[user],
            item=self.item[item],
            item_sparse=self.item_sparse[item],
            item_weight=self.item_weight[item],
            text=self.text[item],
            domain=domain,
            history=history,
            query=None if query is None or not len(self.queries.text) else self.queries.asked(query),
        )


def _stack(rows: Sequence[NDArray[np.generic]]) -> Tensor:
    return torch.from_numpy(np.stack(rows))


@dataclass(frozen=True)
class TrainingData:
    """Labelled pairs as tensors, all `(n,)` but domain, with the profiles they point to."""

    profiles: ProfileTable
    user: Tensor
    """Positions in `profiles`, int64; `item` likewise."""
    item: Tensor
    domain: Tensor
    """Facet indices, int64 `(n, 3)`."""
    label: Tensor
    """1 for a click, else 0, float32."""
    conversion: Tensor
    past: PastEvents | None
    """The users' earlier events; None if the backbone has no user encoder."""
    query: Tensor | None = None
    """Index of each pair's query in `profiles`, int64, or `NO_QUERY`; None if the stream has no queries at all."""
    relevance: Tensor | None = None
    """How relevant the item is to the query, float32, NaN where nobody judged it; None if nobody ever did."""

    @staticmethod
    def of(
        examples: Examples, profiles: ProfileTable, history: HistorySpec = NO_HISTORY, past: PastEvents | None = None
    ) -> TrainingData:
        """The examples as tensors, with `past`, or with each user's earlier examples if `history` asks for them."""
        if past is None and history.length:
            past = past_events(examples, history)
        conversion = examples.conversion if examples.conversion is not None else np.zeros_like(examples.label)
        return TrainingData(
            profiles,
            user=torch.from_numpy(examples.user),
            item=torch.from_numpy(examples.item),
            domain=torch.from_numpy(examples.domain),
            label=torch.from_numpy(examples.label),
            conversion=torch.from_numpy(conversion),
            past=past,
            query=None if examples.query is None else torch.from_numpy(examples.query),
            relevance=None if examples.relevance is None else torch.from_numpy(examples.relevance),
        )

    def __len__(self) -> int:
        return len(self.label)

    def batch(self, index: Tensor) -> FeatureBatch:
        """The features of the pairs `index`, int64 `(m,)`, with a user for each item."""
        history = None if self.past is None else self.profiles.history(self.past, index)
        query = None if self.query is None else self.query[index]
        return self.profiles.batch(self.user[index], self.item[index], self.domain[index], history, query)

    def part(self, begin: int, end: int) -> TrainingData:
        """The pairs from `begin` (included) to `end` (excluded), in the same order."""
        rows = slice(begin, end)
        return replace(
            self,
            user=self.user[rows],
            item=self.item[rows],
            domain=self.domain[rows],
            label=self.label[rows],
            conversion=self.conversion[rows],
            past=None if self.past is None else self.past.of_pairs(rows),
            query=None if self.query is None else self.query[rows],
            relevance=None if self.relevance is None else self.relevance[rows],
        )

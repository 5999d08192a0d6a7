"""Users' recent events as tensors, the input of a user encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PAD = -1
"""Fills the unused places after a history's last event."""


@dataclass(frozen=True)
class History:
    """The last events of `u` users, oldest first, at most `h` each, of `p` items in all.

    Each event holds an index into the items, so that an item which occurs many times is encoded once.
    """

    row: Tensor
    """Rows of the items in the item table, int64 `(p,)`."""
    text: Tensor
    """Text vectors of the items, float32 `(p, t)`."""
    event: Tensor
    """Which of the `p` items each event is of, int64 `(u, h)`; `PAD` after the last event."""
    age: Tensor
    """Seconds from the event to the request, float32 `(u, h)`."""
    clicked: Tensor
    """1 where the item was clicked, 0 where it was shown and not clicked, int64 `(u, h)`."""
    of: Tensor
    """Index of the history of each of `n` pairs, int64 `(n,)`, or `(1,)` if all share one. The pairs of one request
    share a history, so that it is encoded once."""

    @property
    def there(self) -> Tensor:
        """Mask of the places that hold an event, bool `(u, h)`."""
        return self.event != PAD

    def newest(self, length: int) -> History:
        """The newest `length` events of every user, without places that are unused by all."""
        count = self.there.sum(1)
        longest = int(count.max()) if len(count) else 0
        kept = min(longest, length)
        if longest <= length:
            return replace(self, event=self.event[:, :kept], age=self.age[:, :kept], clicked=self.clicked[:, :kept])
        place = (count - length).clamp(min=0)[:, None] + torch.arange(kept)
        event, age, clicked = (part.gather(1, place) for part in (self.event, self.age, self.clicked))
        return replace(self, event=event, age=age, clicked=clicked)

    def pairs(self, index: Tensor) -> History:
        """The histories of the pairs `index`, int64 `(m,)`."""
        return replace(self, of=self.of[index])

    @staticmethod
    def of_nobody(users: int, text_width: int) -> History:
        """Empty histories, of users before their first event."""
        return History(
            row=torch.zeros(0, dtype=torch.int64),
            text=torch.zeros(0, text_width),
            event=torch.zeros(users, 0, dtype=torch.int64),
            age=torch.zeros(users, 0),
            clicked=torch.zeros(users, 0, dtype=torch.int64),
            of=torch.arange(users),
        )

    @staticmethod
    def side_by_side(parts: Sequence[History]) -> History:
        """The pairs of all parts together; their histories must have equally many places."""
        items = list(accumulate((len(part.row) for part in parts), initial=0))
        users = list(accumulate((len(part.event) for part in parts), initial=0))
        events = [torch.where(part.there, part.event + first, PAD) for part, first in zip(parts, items, strict=False)]
        return History(
            row=torch.cat([part.row for part in parts]),
            text=torch.cat([part.text for part in parts]),
            event=torch.cat(events),
            age=torch.cat([part.age for part in parts]),
            clicked=torch.cat([part.clicked for part in parts]),
            of=torch.cat([part.of + first for part, first in zip(parts, users, strict=False)]),
        )


@dataclass(frozen=True)
class PastEvents:
    """Histories as of `m` moments, at which `n` pairs of user and item were shown; items are indices of a profile
    table."""

    item: NDArray[np.int32]
    """Items of the events, oldest first, `(m, h)`; `PAD` after the last."""
    age: NDArray[np.float32]
    """Seconds from the event to the moment, `(m, h)`."""
    clicked: NDArray[np.bool_]
    """`(m, h)`."""
    moment: NDArray[np.int64]
    """The moment of each pair, `(n,)`."""

    def of_pairs(self, part: slice) -> PastEvents:
        """The same histories for a range of the pairs."""
        return replace(self, moment=self.moment[part])

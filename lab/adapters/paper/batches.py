"""Batch-aware training: batches of one domain each, all domains alike often, whatever their traffic.

This is our reading of the paper's "dynamic batch-aware training", of which only the name and its purpose, domains of
very different size, are known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from lab.adapters.base import StreamBatch
from model.kernel.batch import MicroBatch


class DomainBatches:
    """Keeps the newest `count` batches, and draws at most `size` examples of one domain among them.

    `domain_of` gives the domain of facet indices: `(n, 3)` to int64 `(n,)`.
    """

    def __init__(self, count: int, size: int, domain_of: Callable[[Tensor], Tensor]) -> None:
        self._size, self._domain_of = size, domain_of
        self._parts: deque[dict[int, StreamBatch]] = deque(maxlen=count)

    def add(self, batch: StreamBatch) -> None:
        """Takes the newest batch apart by domain; the oldest goes if there are too many."""
        of = self._domain_of(batch.micro.domain)
        self._parts.append({domain: _select(batch, of == domain) for domain in torch.unique(of).tolist()})

    def draw(self, generator: torch.Generator) -> StreamBatch:
        """Examples of one domain: every domain that is kept is as likely as the others."""
        present = sorted({domain for parts in self._parts for domain in parts})
        domain = present[int(torch.randint(len(present), (), generator=generator))]
        kept = [parts[domain] for parts in self._parts if domain in parts]
        drawn: list[StreamBatch] = []
        for index in torch.randperm(len(kept), generator=generator).tolist():
            drawn.append(kept[index])
            if sum(map(len, drawn)) >= self._size:
                break
        return _select(_concat(drawn), slice(self._size))


def _select(batch: StreamBatch, rows: Tensor | slice) -> StreamBatch:
    index = torch.arange(len(batch))[rows]
    return StreamBatch(batch.micro.select(index), batch.user[index], batch.item[index])


def _concat(batches: list[StreamBatch]) -> StreamBatch:
    micro = MicroBatch.concat([batch.micro for batch in batches])
    return StreamBatch(micro, torch.cat([b.user for b in batches]), torch.cat([b.item for b in batches]))

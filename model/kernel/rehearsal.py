"""Which recent examples a rehearsal step takes: plain micro-batches, or single-domain ones with equal budgets."""

from __future__ import annotations

from collections import deque
from typing import Literal

import torch
from torch import Tensor

from model.kernel.batch import MicroBatch
from model.kernel.kernel import Kernel

RehearsalPlan = Literal["plain", "per_domain"]


class Rehearsal:
    """Draws from `recent` with the learner's generator.

    plain: one whole micro-batch. per_domain: all domains that `recent` holds are equally likely, whatever their
    traffic, and the batch holds examples of that one alone, so that small domains get as many updates as large ones
    (our reading of the paper's dynamic batch-aware training).
    """

    def __init__(self, kernel: Kernel, recent: deque[MicroBatch], plan: RehearsalPlan, size: int) -> None:
        self.kernel, self.recent, self.plan, self.size = kernel, recent, plan, size
        self._rows: deque[dict[int, Tensor]] = deque(maxlen=recent.maxlen)

    def draw(self, generator: torch.Generator) -> MicroBatch:
        """The next batch to rehearse. Raises IndexError if there is nothing yet."""
        if self.plan == "plain":
            return self.recent[_random_below(len(self.recent), generator)]
        present = sorted({domain for rows in self._rows for domain in rows})
        domain = present[_random_below(len(present), generator)]
        positions = [position for position, rows in enumerate(self._rows) if domain in rows]
        parts: list[MicroBatch] = []
        missing = self.size
        for index in torch.randperm(len(positions), generator=generator).tolist():
            rows = self._rows[positions[index]][domain]
            parts.append(self.recent[positions[index]].select(rows[:missing]))
            missing -= len(rows)
            if missing <= 0:
                break
        return MicroBatch.concat(parts)

    def reindex(self) -> None:
        """To be called when `recent` was replaced."""
        self._rows.clear()
        if self.plan == "per_domain":
            self._rows.extend(self._by_domain(batch) for batch in self.recent)

    def index_latest(self) -> None:
        """To be called when a micro-batch was added to `recent`."""
        if self.plan == "per_domain" and self.recent:
            self._rows.append(self._by_domain(self.recent[-1]))

    def _by_domain(self, batch: MicroBatch) -> dict[int, Tensor]:
        flat = self.kernel.flat_index(batch.domain)
        return {int(domain): torch.nonzero(flat == domain)[:, 0] for domain in torch.unique(flat)}


def _random_below(limit: int, generator: torch.Generator) -> int:
    if limit == 0:
        raise IndexError("there is nothing to rehearse yet")
    return int(torch.randint(limit, (), generator=generator))

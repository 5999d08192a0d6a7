"""The labels that are known before each request of a live half, and the events of its user until then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from features.live.history import HistoryTable
from features.live.outcome import RequestOutcome
from lab.kernel_start import log_outcomes
from lab.streams import Chunk, Stream
from model.encoding.history import PAD, PastEvents

if TYPE_CHECKING:
    from lab.evaluate.pretrained import Pretrained


@dataclass(frozen=True)
class Labels:
    """When the labels of `r` requests with `n` examples are known."""

    chunk: Chunk
    label: NDArray[np.bool_]
    """Label for training at the end of the window, `(n,)`."""
    batch: NDArray[np.int64]
    """Scoring batch of each request, `(r,)`."""
    decided: NDArray[np.int64]
    """The batch after which its labels are known, `(r,)`."""
    corrected: NDArray[np.int64]
    """The batch after which a click that came late is known, -1 where there was none, `(n,)`."""
    begin: NDArray[np.int64]
    """First example of each request, and of one more, `(r + 1,)`."""

    @staticmethod
    def of(
        chunk: Chunk,
        label: NDArray[np.bool_],
        batch: NDArray[np.int64],
        decided: NDArray[np.int64],
        corrected: NDArray[np.int64],
    ) -> Labels:
        """The labels of a live half."""
        begin = np.concatenate([[0], np.cumsum(chunk.shown.sum(axis=1))])
        return Labels(chunk, label, batch, decided, corrected, begin)

    def before(
        self, outcomes: Sequence[RequestOutcome]
    ) -> Iterator[tuple[slice, RequestOutcome, list[RequestOutcome], list[RequestOutcome]]]:
        """For each request: its examples, the request itself, and what became known since the last: decided requests
        and late clicks."""
        clicked_late = _late_clicks(outcomes, self.begin, self.corrected)
        order, late_order = np.argsort(self.decided, kind="stable"), sorted(clicked_late, key=lambda pair: pair[0])
        taken = put_right = 0
        for request, asked in enumerate(outcomes):
            known, late = [], []
            while taken < len(order) and self.decided[order[taken]] < self.batch[request]:
                known.append(outcomes[int(order[taken])])
                taken += 1
            while put_right < len(late_order) and late_order[put_right][0] < self.batch[request]:
                late.append(late_order[put_right][1])
                put_right += 1
            yield slice(int(self.begin[request]), int(self.begin[request + 1])), asked, known, late


def live_histories(
    stream: Stream, pretrained: Pretrained, known: Labels, *, followed: bool = True
) -> PastEvents | None:
    """The earlier events of each request's user, as live rows held them: from the pretraining log and decided requests.

    Unless `followed`, a history stays as it was when pretraining ended. None if the backbone reads no histories.
    """
    if not pretrained.layout.history.length:
        return None
    layout, log, items = pretrained.layout, pretrained.log, stream.catalogue.items
    table = HistoryTable(layout.history, len(stream.catalogue.users))
    for batch in log.batches():
        table.add(log_outcomes(log, batch, log.examples.time, layout.content_width))
    n = len(known.label)
    content, residual = np.zeros((n, layout.content_width), dtype=np.float32), np.zeros(n, dtype=np.float32)
    outcomes = live_outcomes(stream, pretrained, known, content, residual, known.chunk.time)
    place = {item.item_id: position for position, item in enumerate(items)}
    shape = len(outcomes), layout.history.length
    item, age, clicked = np.full(shape, PAD, np.int32), np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
    for request, (_, asked, decided, late) in enumerate(known.before(outcomes)):
        if followed:
            table.add(decided)
            table.correct(late)
        events = table.events(asked.user_id)
        item[request, : len(events)] = [place[event.item_id] for event in events]
        age[request, : len(events)] = [asked.time - event.time for event in events]
        clicked[request, : len(events)] = [event.clicked for event in events]
    moment = np.repeat(np.arange(len(outcomes)), np.diff(known.begin))
    return PastEvents(item, age, clicked, moment)


def live_outcomes(  # noqa: PLR0917
    stream: Stream,
    pretrained: Pretrained,
    known: Labels,
    content: NDArray[np.float32],
    residual: NDArray[np.float32],
    played: NDArray[np.float64],
) -> list[RequestOutcome]:
    """The requests of the live half as the live features take them, at the times `played`, `(r,)`."""
    catalogue, values, chunk = stream.catalogue, pretrained.log.values, known.chunk
    outcomes = []
    for request, (begin, end) in enumerate(pairwise(known.begin.tolist())):
        positions = chunk.items[request, chunk.shown[request]]
        outcomes.append(
            RequestOutcome(
                user_id=catalogue.users[chunk.user[request]].user_id,
                domain=catalogue.space.decode(chunk.domain[request]),
                items=[catalogue.items[position].item_id for position in positions],
                content=content[begin:end],
                values=values[positions],
                click=known.label[begin:end].astype(np.float32),
                residual=residual[begin:end],
                time=float(played[request]),
            )
        )
    return outcomes


def _late_clicks(
    outcomes: Sequence[RequestOutcome], begin: NDArray[np.int64], corrected: NDArray[np.int64]
) -> list[tuple[int, RequestOutcome]]:
    """Every late click with the number of the scoring batch after which it is known, as a correction of its own."""
    late = []
    for example in np.flatnonzero(corrected >= 0).tolist():
        request = int(np.searchsorted(begin, example, side="right")) - 1
        outcome, position = outcomes[request], example - int(begin[request])
        only = slice(position, position + 1)
        turned = np.ones(1, dtype=np.float32)
        clicked = replace(
            outcome, items=outcome.items[only], content=outcome.content[only], values=outcome.values[only],
            click=turned, residual=turned,
        )  # fmt: skip
        late.append((int(corrected[example]), clicked))
    return late

"""Labelled requests that wait until they fill a micro-batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from model.gate.gate import Gate
from streaming.join.join import LabelledRequest
from streaming.kernel_log.closed import ClosedRequest


class PendingRequests:
    """Pending requests in the order in which they were labelled, until they are taken."""

    def __init__(self) -> None:
        self._requests: list[LabelledRequest] = []
        self.examples = 0
        """Number of items of all pending requests."""
        self.since = 0.0
        """Watermark when the oldest one was labelled, seconds."""

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[LabelledRequest]:
        return iter(self._requests)

    def add(self, request: LabelledRequest, watermark: float) -> None:
        """Adds a request that was labelled at `watermark`."""
        if not self._requests:
            self.since = watermark
        self._requests.append(request)
        self.examples += len(request.impression.items)

    def take(self) -> list[LabelledRequest]:
        """Removes all requests and returns them."""
        taken, self._requests, self.examples = self._requests, [], 0
        return taken

    def restore(self, requests: Sequence[LabelledRequest], since: float) -> None:
        """Restores the requests that were pending, and how long the oldest has been so."""
        self._requests, self.since = [*requests], since
        self.examples = sum(len(request.impression.items) for request in requests)


def waiting_request(
    closed: ClosedRequest, pending: PendingRequests, gate: Gate[LabelledRequest]
) -> LabelledRequest | None:
    """A closed request while it waits for its micro-batch or for the gate; None once it is learned or skipped."""
    if closed.learned_at >= 0:
        return None
    in_doubt = (request for batch in gate.waiting for request in batch.requests)
    return next(request for request in chain(pending, in_doubt) if request.offset == closed.offset)

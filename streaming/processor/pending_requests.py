"""Labelled requests that wait until they fill a micro-batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streaming.processor.join import LabelledRequest


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

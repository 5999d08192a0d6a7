"""One request by names: what data sets and streams make, and what a replay sends."""

from __future__ import annotations

from dataclasses import dataclass

from model.encoding.domain import Domain


@dataclass(frozen=True, slots=True)
class Request:
    """A user was shown these items, and clicked on some of them."""

    time: float
    """Time of the request, seconds since the epoch, UTC."""
    user_id: str
    domain: Domain
    items: tuple[str, ...]
    clicks: tuple[bool, ...]
    delays: tuple[float, ...] = ()
    """Seconds of the recorded time from the request to the feedback on each item; empty where none is known."""

    def clicked(self) -> list[tuple[float, str]]:
        """Delay and item of every click, the quickest first; clicks of one delay keep the order of the items."""
        delays = self.delays or (0.0,) * len(self.items)
        pairs = zip(delays, self.items, self.clicks, strict=True)
        return sorted(((delay, item) for delay, item, clicked in pairs if clicked), key=lambda pair: pair[0])

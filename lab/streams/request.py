"""One request with names instead of indices, as data sets and streams make it and a replay sends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from model.encoding.domain import Domain


class ItemFeedback(NamedTuple):
    """What the user did with one item of a request."""

    delay: float
    """Seconds of recorded time after the request."""
    item: str
    kind: Literal["click", "conversion"]


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
    conversions: tuple[float | None, ...] = ()
    """Seconds of the recorded time from the click to the conversion of each item, None where there was none; empty
    where none is known."""
    query: str = ""
    """The user's query; empty for a recommendation."""

    def clicked(self) -> list[tuple[float, str]]:
        """Delay and item of every click, the quickest first; clicks of one delay keep the order of the items."""
        delays = self.delays or (0.0,) * len(self.items)
        pairs = zip(delays, self.items, self.clicks, strict=True)
        return sorted(((delay, item) for delay, item, clicked in pairs if clicked), key=lambda pair: pair[0])

    def feedback(self) -> list[ItemFeedback]:
        """Every click and conversion, the quickest first; of one delay a click comes before any conversion."""
        after = dict(zip(self.items, self.conversions, strict=True)) if self.conversions else {}
        clicks = [ItemFeedback(delay, item, "click") for delay, item in self.clicked()]
        conversions = [
            ItemFeedback(click.delay + waited, click.item, "conversion")
            for click in clicks
            if (waited := after.get(click.item)) is not None
        ]
        return sorted(clicks + conversions, key=lambda event: event.delay)

"""Which partition of `traffic` an outside event goes to, once it keeps the rules. No broker, no clock."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from streaming.config import Config
from streaming.events import Event, FeedbackEvent, ImpressionEvent
from streaming.events.rules import EventRules, decode_outside


class Routing:
    """The rules of one configuration."""

    def __init__(self, config: Config, on_undeclared: Callable[[], None] = lambda: None) -> None:
        """`on_undeclared` is told of every impression of an undeclared domain value, as a scorer's is."""
        self._config = config
        self._rules = EventRules(config)
        self._on_undeclared = on_undeclared
        self._space = config.domain_space()

    def read(self, value: bytes | None, now: float) -> Event:
        """The event in `value` if it is in order at wall-clock time `now`. Raises RefusedError.

        An undeclared value of an impression's or feedback's domain becomes `unknown`, as it does in a scorer.
        """
        event = decode_outside(value)
        self._rules.check(event, now)
        if isinstance(event, ImpressionEvent) and not self._space.declared(event.domain):
            self._on_undeclared()
            return msgspec.structs.replace(event, domain=self._space.known(event.domain))
        if isinstance(event, FeedbackEvent) and event.domain is not None and not self._space.declared(event.domain):
            return msgspec.structs.replace(event, domain=self._space.known(event.domain))
        return event

    def partition(self, event: ImpressionEvent | FeedbackEvent) -> int:
        """Partition of `traffic`: that of the event's kernel group. Raises RefusedError."""
        partition = self._config.partition_of(self._rules.group(event))
        assert partition is not None, "a group of the configuration has a partition"
        return partition

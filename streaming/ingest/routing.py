"""Checks an outside event and finds its partition of `traffic`. It has no broker and no clock."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from streaming.config import Config
from streaming.events import Event, FeedbackEvent, ImpressionEvent, RefusedError
from streaming.events.rules import EventRules, decode_outside
from streaming.topics import INTERACTION_BYTES


class Routing:
    """Rules and routing of one configuration."""

    def __init__(
        self,
        config: Config,
        on_undeclared: Callable[[], None] = lambda: None,
        on_corrected: Callable[[Event], None] = lambda _: None,
    ) -> None:
        """`on_undeclared` is called for every impression with an undeclared domain value, as in a scorer.

        `on_corrected` is called with every event whose time was ahead of the broker's clock.
        """
        self._config = config
        self._rules = EventRules(config)
        self._on_undeclared = on_undeclared
        self._on_corrected = on_corrected
        self._space = config.domain_space()

    def decode(self, value: bytes | None) -> Event:
        """Decodes the event in `value` without checking it. Raises RefusedError."""
        # The broker limits the size after compression; this limits it before.
        if value is not None and len(value) > INTERACTION_BYTES:
            raise RefusedError("too_large", f"{len(value)} bytes, at most {INTERACTION_BYTES} are taken")
        return decode_outside(value)

    def accept(self, event: Event, appended: float) -> Event:
        """The event if it is valid at broker time `appended`, with no later time than that. Raises RefusedError.

        An undeclared value of an impression's or feedback's domain becomes `unknown`, as it does in a scorer.
        """
        self._rules.check(event, appended)
        timed = self._rules.timed(event, appended)
        if timed is not event:
            self._on_corrected(event)
            event = timed
        if isinstance(event, ImpressionEvent) and not self._space.declared(event.domain):
            self._on_undeclared()
            return msgspec.structs.replace(event, domain=self._space.known(event.domain))
        if isinstance(event, FeedbackEvent) and event.domain is not None and not self._space.declared(event.domain):
            return msgspec.structs.replace(event, domain=self._space.known(event.domain))
        return event

    def read(self, value: bytes | None, appended: float) -> Event:
        """`decode` and `accept`. Raises RefusedError."""
        return self.accept(self.decode(value), appended)

    def partition(self, event: ImpressionEvent | FeedbackEvent) -> int:
        """Partition of `traffic` of the event's kernel group. Raises RefusedError."""
        partition = self._config.partition_of(self._rules.group(event))
        assert partition is not None, "a group of the configuration has a partition"
        return partition

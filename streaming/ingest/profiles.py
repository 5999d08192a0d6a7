"""Profiles on their way to the feature store: the newest of each entity, written together, tried until it works."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from streaming.events import ItemEvent, UserEvent
from streaming.ingest.output import StoppedError

log = logging.getLogger(__name__)


class ProfileStore(Protocol):
    """The part of the feature store that ingest writes."""

    def write_users(self, users: list[UserEvent]) -> object: ...
    def write_items(self, items: list[ItemEvent]) -> object: ...


@dataclass
class Profiles:
    """The profiles of one batch: of several about one entity the newest counts, of equally new ones the last."""

    users: dict[str, UserEvent] = field(default_factory=dict)
    items: dict[str, ItemEvent] = field(default_factory=dict)

    def add(self, event: UserEvent | ItemEvent) -> None:
        """Takes one event in."""
        if isinstance(event, UserEvent):
            old_user = self.users.get(event.user_id)
            if old_user is None or event.time >= old_user.time:
                self.users[event.user_id] = event
        else:
            old_item = self.items.get(event.item_id)
            if old_item is None or event.time >= old_item.time:
                self.items[event.item_id] = event

    def __bool__(self) -> bool:
        return bool(self.users or self.items)


class Patience:
    """Runs a step until it works, with growing pauses, and lets `/healthz` say what it waits for."""

    def __init__(self, stopping: threading.Event, *, first_s: float = 0.2, longest_s: float = 10.0) -> None:
        self._stopping = stopping
        self._first_s = first_s
        self._longest_s = longest_s
        self._problem: str | None = None

    def until_done(self, what: str, step: Callable[[], object], *, hopeless: tuple[type[Exception], ...] = ()) -> None:
        """Runs `step`; any error but the `hopeless` ones is logged and the step is tried again.

        Raises the hopeless error, or StoppedError when the process is asked to end between two tries.
        """
        pause, began = self._first_s, time.monotonic()
        while True:
            try:
                step()
            except hopeless:
                raise
            except Exception as error:
                waited = time.monotonic() - began
                self._problem = f"{what} failing for {waited:.0f} s: {type(error).__name__}: {error}"
                log.warning("%s; trying again in %.1f s, nothing is skipped", self._problem, pause)
                if self._stopping.wait(pause):
                    raise StoppedError from error
                pause = min(2 * pause, self._longest_s)
            else:
                self._problem = None
                return

    def check(self) -> str | None:
        """The check for `/healthz`."""
        return self._problem

"""Profiles to be written to the feature store: the newest of each user and item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from streaming.events import ItemEvent, UserEvent


class ProfileStore(Protocol):
    """The part of the feature store that ingest writes."""

    def write_users(self, users: Sequence[UserEvent]) -> None:
        """Writes all of them, or raises the store's error."""

    def write_items(self, items: Sequence[ItemEvent]) -> None:
        """Writes all of them, or raises the store's error."""

    def user_times(self, ids: Sequence[str]) -> list[float | None]:
        """Event times of the stored profiles, seconds; None where there is none."""

    def item_times(self, ids: Sequence[str]) -> list[float | None]:
        """Event times of the stored profiles, seconds; None where there is none."""


@dataclass
class LatestProfiles:
    """The newest profile of each user and item in a batch; among equally new ones, the last."""

    users: dict[str, UserEvent] = field(default_factory=dict)
    items: dict[str, ItemEvent] = field(default_factory=dict)

    def add(self, event: UserEvent | ItemEvent) -> None:
        """Adds one event."""
        if isinstance(event, UserEvent):
            known_user = self.users.get(event.user_id)
            if known_user is None or event.time >= known_user.time:
                self.users[event.user_id] = event
        else:
            known_item = self.items.get(event.item_id)
            if known_item is None or event.time >= known_item.time:
                self.items[event.item_id] = event


def write_newer_users(store: ProfileStore, users: Sequence[UserEvent]) -> int:
    """Writes the profiles that are not older than the stored ones; returns how many. Equally new ones replace.

    Raises the store's error. docs/decisions/0099 says why event time decides, and what that cannot guarantee.
    """
    times = store.user_times([user.user_id for user in users])
    newer = [user for user, stored in zip(users, times, strict=True) if stored is None or user.time >= stored]
    if newer:
        store.write_users(newer)
    return len(newer)


def write_newer_items(store: ProfileStore, items: Sequence[ItemEvent]) -> int:
    """As `write_newer_users`, for items."""
    times = store.item_times([item.item_id for item in items])
    newer = [item for item, stored in zip(items, times, strict=True) if stored is None or item.time >= stored]
    if newer:
        store.write_items(newer)
    return len(newer)

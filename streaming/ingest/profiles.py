"""Profiles on their way to the feature store: of each user and item the newest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from streaming.events import ItemEvent, UserEvent


class ProfileStore(Protocol):
    """The part of the feature store that ingest writes."""

    def write_users(self, users: list[UserEvent]) -> object:
        """Writes all of them, or raises what the store raises."""

    def write_items(self, items: list[ItemEvent]) -> object:
        """Writes all of them, or raises what the store raises."""


@dataclass
class LatestProfiles:
    """The profiles of one batch: of several about one entity the newest counts, of equally new ones the last."""

    users: dict[str, UserEvent] = field(default_factory=dict)
    items: dict[str, ItemEvent] = field(default_factory=dict)

    def add(self, event: UserEvent | ItemEvent) -> None:
        """Takes one event in."""
        if isinstance(event, UserEvent):
            known_user = self.users.get(event.user_id)
            if known_user is None or event.time >= known_user.time:
                self.users[event.user_id] = event
        else:
            known_item = self.items.get(event.item_id)
            if known_item is None or event.time >= known_item.time:
                self.items[event.item_id] = event

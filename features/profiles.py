"""Profiles of users and items, as data sets make them and the feature store keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from model.encoding.spelling import FieldValue


class UserLike(Protocol):
    """An object with the fields of a user event."""

    @property
    def user_id(self) -> str:
        """The user's id."""

    @property
    def time(self) -> float:
        """Event time of the profile, seconds since the epoch."""

    @property
    def fields(self) -> Mapping[str, FieldValue]:
        """Values by field name."""


class ItemLike(Protocol):
    """An object with the fields of an item event."""

    @property
    def item_id(self) -> str:
        """The item's id."""

    @property
    def time(self) -> float:
        """Event time of the profile, seconds since the epoch."""

    @property
    def text(self) -> str:
        """Title or description; may be empty."""

    @property
    def fields(self) -> Mapping[str, FieldValue]:
        """Values by field name."""


@dataclass(frozen=True, slots=True)
class UserProfile:
    """A user as of `time` (seconds since the epoch)."""

    user_id: str
    time: float
    fields: Mapping[str, FieldValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ItemProfile:
    """An item as of `time` (seconds since the epoch)."""

    item_id: str
    time: float
    text: str = ""
    fields: Mapping[str, FieldValue] = field(default_factory=dict)

"""What the system knows about users and items: the shapes that data sets make and the feature store keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from model.encoding.spelling import FieldValue


class UserLike(Protocol):
    """Anything that reads like a user event."""

    @property
    def user_id(self) -> str: ...
    @property
    def time(self) -> float: ...
    @property
    def fields(self) -> Mapping[str, FieldValue]: ...


class ItemLike(Protocol):
    """Anything that reads like an item event."""

    @property
    def item_id(self) -> str: ...
    @property
    def time(self) -> float: ...
    @property
    def text(self) -> str: ...
    @property
    def fields(self) -> Mapping[str, FieldValue]: ...


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

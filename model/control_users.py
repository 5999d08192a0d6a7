"""Control users: a fixed share of the users, drawn by a hash that every process computes alike, whom the frozen arm
serves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

BUCKETS = 128
"""Per arm."""


@dataclass(frozen=True)
class ControlUsers:
    """The share of users who are control users; with the same salt they are always the same users."""

    share: float = 0.0
    salt: str = ""

    def draw(self, user_id: str) -> UserDraw:
        """The three numbers that the user's hash decides."""
        digest = hashlib.blake2b(user_id.encode(), digest_size=24, key=self.salt.encode()[:64]).digest()
        assigned, bucket, counted = (int.from_bytes(digest[at : at + 8], "little") for at in (0, 8, 16))
        return UserDraw(assigned < self.share * 2.0**64, bucket % BUCKETS, counted)


@dataclass(frozen=True, slots=True)
class UserDraw:
    """Three independent numbers that a user's hash decides."""

    control: bool
    bucket: int
    counted: int
    """64 bits, for counting distinct users."""


NO_CONTROL = ControlUsers()
"""Nobody is a control user."""

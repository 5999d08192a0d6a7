"""Which users are served by the frozen arm: a sticky share of them, by a hash that every process works out alike."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

BUCKETS = 128
"""Per arm."""


@dataclass(frozen=True)
class ControlUsers:
    """Which users are control users: a share of them, the same ones as long as the salt is the same."""

    share: float = 0.0
    salt: str = ""

    def draw(self, user_id: str) -> UserDraw:
        """What the user's hash decides."""
        digest = hashlib.blake2b(user_id.encode(), digest_size=24, key=self.salt.encode()[:64]).digest()
        assigned, bucket, counted = (int.from_bytes(digest[at : at + 8], "little") for at in (0, 8, 16))
        return UserDraw(assigned < self.share * 2.0**64, bucket % BUCKETS, counted)


@dataclass(frozen=True, slots=True)
class UserDraw:
    """What a user's hash decides: three numbers that have nothing to do with each other."""

    control: bool
    bucket: int
    counted: int
    """64 bits, for counting users."""


NO_CONTROL = ControlUsers()
"""Nobody is a control user."""

"""When each recorded request is played: a pure plan, made before the first request leaves.

The recorded stream is months long and most users come in one burst. Played at its own pace it would take as long;
played in strict order without pauses, a user's next request would be answered before the last one's clicks are known.
The plan keeps each user's own order and pauses, and lets other users' requests move up to fill the time between.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_SAME_TIME = 1e-9


@dataclass(frozen=True)
class Pace:
    """Speed of a replay."""

    rate: float = 120.0
    """Requests per second, at most."""
    think_s: float = 1.0
    """Seconds between two requests of one user, for all but the heaviest users."""
    session_s: float = 10.0
    """A user with many requests pauses less, so that all of them fit in about this many seconds."""
    lookahead: int = 1_500
    """A request never overtakes one that is this many requests earlier in the recorded order."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the first value that makes no sense."""
        if not self.rate > 0:
            raise ValueError(f"rate must be above 0 requests per second, not {self.rate}")
        if self.think_s < 0 or self.session_s < 0:
            raise ValueError("think_s and session_s must not be negative")
        if self.lookahead < 1:
            raise ValueError(f"lookahead must be at least 1 request, not {self.lookahead}")

    def pause(self, requests: int) -> float:
        """Seconds between two requests of a user who has `requests` of them."""
        return min(self.think_s, self.session_s / max(1, requests))


@dataclass(frozen=True, slots=True)
class Slot:
    """A planned request: when it is sent, and its index in the recording."""

    at: float
    """Seconds after the start of the play."""
    index: int
    """Position in the recorded order."""


class _Planner:
    """Greedy: at every tick of the rate, the earliest recorded request whose user is ready, within the look-ahead."""

    def __init__(self, users: Sequence[str], pace: Pace, edges: Iterable[int]) -> None:
        self._users = users
        self._pace = pace
        self._edges = sorted({edge for edge in edges if 0 < edge < len(users)}, reverse=True)
        self._rest: dict[str, list[int]] = {}
        for index in range(len(users) - 1, -1, -1):
            self._rest.setdefault(users[index], []).append(index)
        self._first = {rest[-1] for rest in self._rest.values()}
        self._pause = {user: pace.pause(count) for user, count in Counter(users).items()}
        self._played = bytearray(len(users))
        self._oldest = 0
        self._seen = 0
        self._ready: list[int] = []
        self._thinking: list[tuple[float, int]] = []

    def plan(self) -> list[Slot]:
        # Depends on users and pace alone (docs/decisions/0050), so that two plays have the same order on any machine.
        slots: list[Slot] = []
        now = 0.0
        for _ in self._users:
            limit = self._admit()
            self._wake(now)
            while not self._ready or self._ready[0] >= limit:
                now = max(now, self._thinking[0][0])
                self._wake(now)
            slots.append(Slot(now, self._play(now)))
            now += 1.0 / self._pace.rate
        return slots

    def _admit(self) -> int:
        """Moves the window on; returns the first index beyond it."""
        while self._played[self._oldest]:
            self._oldest += 1
        while self._edges and self._edges[-1] <= self._oldest:
            self._edges.pop()
        end = self._edges[-1] if self._edges else len(self._users)
        limit = min(end, self._oldest + self._pace.lookahead)
        for index in range(self._seen, limit):
            if index in self._first:
                heapq.heappush(self._ready, index)
        self._seen = max(self._seen, limit)
        return limit

    def _wake(self, now: float) -> None:
        while self._thinking and self._thinking[0][0] <= now + _SAME_TIME:
            heapq.heappush(self._ready, heapq.heappop(self._thinking)[1])

    def _play(self, now: float) -> int:
        index = heapq.heappop(self._ready)
        self._played[index] = 1
        user = self._users[index]
        rest = self._rest[user]
        rest.pop()
        if rest:
            heapq.heappush(self._thinking, (now + self._pause[user], rest[-1]))
        return index


def plan(users: Sequence[str], pace: Pace, edges: Iterable[int] = ()) -> list[Slot]:
    """The play times of a recorded stream; `users[i]` made request `i`.

    Every request is planned exactly once, times never fall, each user's requests keep their order and lie at least
    `pace.pause(...)` apart, the rate is never exceeded, and no request overtakes one that is `pace.lookahead` or more
    requests older, so none starves. `edges` are positions in the recorded order that no request crosses: all before one
    are planned before all from it on.
    """
    return _Planner(users, pace, edges).plan()

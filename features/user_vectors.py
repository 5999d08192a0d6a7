"""User vectors of a two-tower backbone, cached until one of their inputs changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from features.cache import Cache
from features.config import FeatureConfig
from model.backbone.interface import FrozenBackbone, TwoTowers, round_representation
from model.encoding.features import EncodedUser, FeatureBatch
from model.encoding.profile import HistoryEvent

_EVENT_BYTES = 220
_OBJECT_BYTES = 500


@dataclass(frozen=True, slots=True)
class UserState:
    """The inputs of a user vector, besides frozen parameters and the profiles of the items in the history."""

    encoded: EncodedUser
    facets: tuple[int, int, int]
    events: tuple[HistoryEvent, ...]
    """The live history, oldest first."""

    def is_still(self, other: UserState) -> bool:
        """Whether nothing has changed: the same cached profile, domain and history."""
        return self.encoded is other.encoded and self.facets == other.facets and self.events == other.events


@dataclass(frozen=True, slots=True)
class _CachedVector:
    state: UserState
    vector: Tensor


def _bytes(cached: _CachedVector) -> int:
    return _OBJECT_BYTES + cached.vector.nbytes + _EVENT_BYTES * len(cached.state.events)


class UserVectors:
    """Keeps vectors by user and domain. Safe to use from several threads.

    A profile that is read again leads to a new vector, even if it is unchanged, so no vector is older than
    `features.user_cache_s` (docs/decisions/0123).
    """

    def __init__(self, towers: TwoTowers, config: FeatureConfig, now: Callable[[], float]) -> None:
        """`now` is a clock in seconds."""
        self.towers = towers
        self._vectors: Cache[_CachedVector] = Cache(config.user_cache_bytes, config.user_cache_s, now, _bytes)

    @staticmethod
    def of(backbone: FrozenBackbone, config: FeatureConfig, now: Callable[[], float]) -> UserVectors | None:
        """A cache for a two-tower backbone; None for any other."""
        return UserVectors(backbone, config, now) if isinstance(backbone, TwoTowers) else None

    def vector(self, user_id: str, state: UserState, batch: Callable[[], FeatureBatch]) -> Tensor:
        """The vector of a user, `(1, d / 2)`, rounded as it is logged; `batch` makes the backbone's input."""
        key = f"{state.facets} {user_id}"
        cached = None if self.towers.reads_clock else self._vectors.get(key)
        if cached is None or not cached.state.is_still(state):
            cached = _CachedVector(state, round_representation(self.towers.user_vector(batch())))
            if not self.towers.reads_clock:
                self._vectors.put(key, cached)
        return cached.vector

    def clear(self) -> None:
        """Drops all vectors."""
        self._vectors.clear()

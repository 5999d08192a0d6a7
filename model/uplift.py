"""The online experiment: users of the live arm against control users, who are always served by the frozen arm.

The unit is the user, because users are assigned to arms: one user's clicks depend on each other, in unknown ways. Users
are hashed into buckets within each arm; totals of different buckets are independent, however the requests of one user
depend on each other. Per arm the estimate is the ratio R of totals (clicks per shown item, say), and its variance is
the jackknife's over the G buckets with users (Efron and Stein 1981; over hashed buckets of users, Chamandy et al.
2012):

    var(R) = (G - 1) / G  sum_b (R_-b - mean R_-b)^2,    R_-b the ratio without bucket b.

The interval of `R_live - R_frozen` at look k = 0, 1, .. has Student's quantile at level `alpha / ((k + 1) (k + 2))`
with Welch's degrees of freedom. The levels sum to alpha, so by the union bound the intervals of all looks hold together
with probability 1 - alpha: an operator may stop at any look. A look is due when the control users' requests have grown
by a fourth, which does not depend on labels. That is the peeling of Darling and Robbins (1967) with a robust variance
in place of a martingale; a martingale's boundary would be too narrow, because a user's later requests are not
independent news (docs/decisions/0105). The interval is asymptotic in the number of users; `python -m benchmarks --only
uplift_coverage` measures its coverage with few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import special  # type: ignore[import-untyped,unused-ignore]

from model.control_users import BUCKETS, ControlUsers, UserDraw

MIN_BUCKETS = 30
"""Least buckets with users in each arm for an interval, because fewer say little about the variance."""
MIN_EVENTS = 20
"""Least clicks (or conversions) in each arm for an interval, because fewer say little about their variance."""
GROWTH = 1.25
ALPHA = 0.05
_REGISTERS = 512

UpliftArm = Literal["live", "frozen"]
UPLIFT_ARMS: tuple[UpliftArm, ...] = ("live", "frozen")
COUNTS = ("requests", "shown", "clicks", "conversions")
Totals = NDArray[np.int64] | NDArray[np.float64]
"""Totals by bucket."""
RATIOS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "clicks_per_item": ("clicks", "shown"),
        "clicks_per_request": ("clicks", "requests"),
        "conversions_per_item": ("conversions", "shown"),
    }
)
"""The ratios compared: numerator and denominator. Each has its own interval."""


class Effect(msgspec.Struct, frozen=True):
    """One ratio in both arms, and the interval of its difference, valid at all looks together."""

    ratio: str
    live: float
    frozen: float
    low: float | None
    """Lower end of the interval of `live - frozen`; None while there are too few events."""
    high: float | None

    @property
    def decided(self) -> Literal["better", "worse", "not yet"]:
        """What the interval says about the live arm."""
        if self.low is None or self.high is None:
            return "not yet"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "not yet"


class UpliftLook(msgspec.Struct, frozen=True):
    """The state of the experiment at one look."""

    number: int
    """Counts from 0."""
    effects: list[Effect]
    users: dict[str, int]
    """Distinct users by arm, accurate to about 5 %."""
    requests: dict[str, int]
    """Labelled requests by arm."""


class _State(msgspec.Struct, frozen=True, array_like=True):
    share: float
    salt: str
    counts: bytes
    registers: bytes
    next_look: float
    look: UpliftLook | None


_state_decoder = msgspec.msgpack.Decoder(_State)


class Uplift:
    """Counts the behaviour of both arms' users in fixed memory, and computes intervals at looks."""

    def __init__(self, control: ControlUsers) -> None:
        self.control = control
        self.look: UpliftLook | None = None
        """The newest look."""
        self._counts = np.zeros((len(UPLIFT_ARMS), len(COUNTS), BUCKETS), dtype=np.int64)
        self._registers = np.zeros((len(UPLIFT_ARMS), _REGISTERS), dtype=np.uint8)
        self._next_look = 0.0

    def add(self, user: UserDraw, *, shown: int, clicks: int, conversions: int) -> UpliftLook | None:
        """Counts one labelled request; returns the look if one was due."""
        arm = int(user.control)
        self._counts[arm, :, user.bucket] += (1, shown, clicks, conversions)
        register, rest = user.counted % _REGISTERS, user.counted // _REGISTERS
        self._registers[arm, register] = max(self._registers[arm, register], 56 - rest.bit_length())
        if not user.control or self._counts[1, 0].sum() < self._next_look:
            return None
        return self._look()

    def convert(self, user: UserDraw, conversions: int) -> None:
        """Adds later conversions of a request that was counted before; they enter the next look."""
        self._counts[int(user.control), COUNTS.index("conversions"), user.bucket] += conversions

    def users(self) -> dict[str, int]:
        """Distinct users by arm."""
        return {arm: _distinct(self._registers[index]) for index, arm in enumerate(UPLIFT_ARMS)}

    def requests(self) -> dict[str, int]:
        """Labelled requests by arm."""
        return {arm: int(self._counts[index, 0].sum()) for index, arm in enumerate(UPLIFT_ARMS)}

    def _look(self) -> UpliftLook | None:
        if min(np.count_nonzero(self._counts[arm, 0]) for arm in range(2)) < MIN_BUCKETS:
            return None
        number = 0 if self.look is None else self.look.number + 1
        self._next_look = math.ceil(GROWTH * float(self._counts[1, 0].sum()))
        effects = [effect(name, self._counts, level_of(number)) for name in RATIOS]
        self.look = UpliftLook(number, effects, self.users(), self.requests())
        return self.look

    def snapshot(self) -> bytes:
        """The complete state as bytes."""
        counts, registers = self._counts.astype("<u4").tobytes(), self._registers.tobytes()
        state = _State(self.control.share, self.control.salt, counts, registers, self._next_look, self.look)
        return msgspec.msgpack.encode(state)

    def restore(self, data: bytes) -> None:
        """Continues from a snapshot. If it has another share or salt, it is another experiment, and counting starts
        again from zero.

        Raises msgspec.DecodeError or ValueError.
        """
        state = _state_decoder.decode(data)
        if (state.share, state.salt) != (self.control.share, self.control.salt):
            return
        self._counts = np.frombuffer(state.counts, dtype="<u4").astype(np.int64).reshape(self._counts.shape)
        self._registers = np.frombuffer(state.registers, dtype=np.uint8).reshape(self._registers.shape).copy()
        self._next_look, self.look = state.next_look, state.look


def level_of(look: int) -> float:
    """The part of alpha that look number `look` spends; all looks together spend alpha."""
    return ALPHA / ((look + 1) * (look + 2))


def effect(name: str, counts: NDArray[np.int64], level: float) -> Effect:
    """Effect on one ratio with its interval at `level`; `counts` is `(2 arms, 4 counts, buckets)`."""
    above, below = (COUNTS.index(part) for part in RATIOS[name])
    (live, live_var, live_df), (frozen, frozen_var, frozen_df) = (jackknife(arm[above], arm[below]) for arm in counts)
    total = live_var + frozen_var
    if counts[:, above].sum(axis=1).min() < MIN_EVENTS or total == 0.0:
        return Effect(name, live, frozen, None, None)
    freedom = total**2 / (live_var**2 / live_df + frozen_var**2 / frozen_df)
    half = float(special.stdtrit(freedom, 1.0 - level / 2.0)) * math.sqrt(total)
    return Effect(name, live, frozen, live - frozen - half, live - frozen + half)


def jackknife(above: Totals, below: Totals) -> tuple[float, float, int]:
    """Ratio of two totals over buckets, its jackknife variance, and that variance's degrees of freedom."""
    used = below > 0
    above, below = above[used], below[used]
    without = (above.sum() - above) / (below.sum() - below)
    count = len(above)
    variance = (count - 1) / count * float(((without - without.mean()) ** 2).sum())
    return float(above.sum() / below.sum()), variance, count - 1


def _distinct(registers: NDArray[np.uint8]) -> int:
    """Estimated number of distinct values (Flajolet et al. 2007, HyperLogLog, with linear counting for few values)."""
    count = len(registers)
    empty = int(np.count_nonzero(registers == 0))
    if empty and count * math.log(count / empty) <= 2.5 * count:
        return round(count * math.log(count / empty))
    alpha = 0.7213 / (1.0 + 1.079 / count)
    return round(alpha * count**2 / float((2.0 ** -registers.astype(np.float64)).sum()))

"""Coverage of the intervals of `model/uplift.py` at all looks together, and how soon they show an effect.

Made-up users of several kinds: few or many, equally active or a few of them most active, each with a constant taste, on
a stream whose click rate varies. Half of the streams have no effect; coverage is of the true difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from model.control_users import BUCKETS
from model.uplift import GROWTH, MIN_BUCKETS, Effect, effect, level_of

STREAMS = 300
ITEMS = 10
_LOOKS = 18
_SEED = 0


@dataclass(frozen=True)
class Crowd:
    """A simulated population of users: how active they are, how they click, and the true uplift."""

    name: str
    users: int
    share: float
    """Share of control users."""
    activity: float
    """Deviation of the logarithm of a user's activity: 0 is all alike, 2 is a few of them most of the time."""
    taste: float
    """Deviation of a user's own logit."""
    lift: float = 0.0
    """Effect of the live arm, added to the logit."""


CROWDS = (
    Crowd("2 % of 5 000 users", 5_000, 0.02, 1.0, 1.0),
    Crowd("2 % of 20 000 users", 20_000, 0.02, 1.0, 1.0),
    Crowd("10 % of 2 000 users, all alike", 2_000, 0.10, 0.0, 0.0),
    Crowd("10 % of 2 000 users, a few most active", 2_000, 0.10, 1.7, 1.0),
    Crowd("half of 1 000 users, strong tastes", 1_000, 0.50, 1.0, 2.0),
    Crowd("10 % of 10 000 users, +10 %", 10_000, 0.10, 1.0, 1.0, 0.105),
    Crowd("10 % of 10 000 users, +20 %", 10_000, 0.10, 1.0, 1.0, 0.21),
)


@dataclass(frozen=True)
class Outcome:
    """Result of one simulated experiment."""

    missed: bool
    """Whether some interval missed the true difference."""
    missed_plainly: bool
    """Whether some interval missed it that has 95 % at each look, as if it were the only look."""
    decided_after: int | None
    """Requests of control users at the first look that showed an effect."""


def play(crowd: Crowd, random: np.random.Generator) -> Outcome:
    """One stream through all its looks."""
    activity = np.exp(random.normal(0, crowd.activity, crowd.users))
    logit = random.normal(-2.2, crowd.taste, crowd.users)
    control = random.random(crowd.users) < crowd.share
    bucket = random.integers(BUCKETS, size=crowd.users) + BUCKETS * control
    wanted = 400.0 / max(float((activity * control).sum()), 1e-9)  # requests of control users at the first look
    counts = np.zeros((2, 4, BUCKETS), dtype=np.int64)
    truth, looks, missed, plainly, decided_after = np.zeros(3), 0, False, False, None
    for step in range(_LOOKS):
        rate = activity * wanted * (1.0 if step == 0 else GROWTH**step - GROWTH ** (step - 1))
        seen = random.poisson(rate)
        moved = logit + 0.4 * np.sin(step / 3.0)  # the whole stream's click rate moves
        chances = [1.0 / (1.0 + np.exp(-moved - lift)) for lift in (crowd.lift, 0.0)]
        clicks = random.binomial(seen * ITEMS, np.where(control, chances[1], chances[0]))
        for row, values in enumerate((seen, seen * ITEMS, clicks)):
            counts[:, row] += np.bincount(bucket, values, 2 * BUCKETS).astype(np.int64).reshape(2, BUCKETS)
        truth += (float((rate * chances[0]).sum()), float((rate * chances[1]).sum()), float(rate.sum()))
        if min(np.count_nonzero(arm[0]) for arm in counts) < MIN_BUCKETS:
            continue
        difference = (truth[0] - truth[1]) / truth[2]
        now = effect("clicks_per_item", counts, level_of(looks))
        missed |= _misses(now, difference)
        plainly |= _misses(effect("clicks_per_item", counts, 0.05), difference)
        if decided_after is None and now.decided != "not yet":
            decided_after = int(counts[1, 0].sum())
        looks += 1
    return Outcome(missed, plainly, decided_after)


def _misses(now: Effect, difference: float) -> bool:
    return now.low is not None and now.high is not None and not now.low <= difference <= now.high


def _share(values: NDArray[np.bool_]) -> str:
    error = 1.96 * float(np.sqrt(values.mean() * (1 - values.mean()) / len(values)))
    return f"{values.mean():.2%} ± {error:.2%}"


def main() -> int:
    """Prints the coverage of the intervals by population."""
    table = Table(
        "stream", "misses the truth at some look", "with 95 % intervals of single looks", "finds an effect",
        "control requests until then",
        title=f"{STREAMS} streams each, up to {_LOOKS} looks, level 5 %",
    )  # fmt: skip
    for number, crowd in enumerate(CROWDS):
        random = np.random.default_rng([_SEED, number])
        outcomes = [play(crowd, random) for _ in range(STREAMS)]
        decided_after = [outcome.decided_after for outcome in outcomes if outcome.decided_after is not None]
        table.add_row(
            crowd.name,
            _share(np.array([outcome.missed for outcome in outcomes])),
            _share(np.array([outcome.missed_plainly for outcome in outcomes])),
            f"{len(decided_after) / len(outcomes):.1%}",
            f"{np.median(decided_after):,.0f}" if len(decided_after) > STREAMS / 2 else "",
        )
    Console().print(table)
    return 0

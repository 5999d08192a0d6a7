"""Bias, coverage and width of off-policy estimates (`model/off_policy.py`), beside an experiment and a naive replay.

Made-up users with tastes ask for ten items each time. The served model sees the items' true logits with much noise, the
target policy with little, so the target is better. The click rate at the first place is higher than the served model
predicts. The truth is the expected value over all users.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import special  # type: ignore[import-untyped,unused-ignore]

from model.control_users import BUCKETS
from model.exploration import UNIFORM
from model.off_policy import Estimate, Explored, TargetPolicy, difference, estimate
from model.uplift import jackknife

STREAMS = 300
ITEMS = 10
_TRUTH = 400_000
_FIRST = 0.4
"""What the first place adds to an item's logit."""
_SEED = 0
_NORMAL = 1.96

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Crowd:
    """A simulated log: its size, its users, and how it explores."""

    name: str
    requests: int
    users: int
    activity: float = 1.0
    """Deviation of the logarithm of a user's activity."""
    taste: float = 1.0
    """Deviation of a user's own logit."""
    temperature: float = 1.0
    level: float = -2.0
    """Logit of an average item."""


CROWDS = (
    Crowd("1 000 requests of 500 users", 1_000, 500),
    Crowd("2 000 requests of 800 users", 2_000, 800),
    Crowd("5 000 requests of 2 000 users", 5_000, 2_000),
    Crowd("20 000 requests of 5 000 users", 20_000, 5_000),
    Crowd("5 000 requests, temperature 0.3", 5_000, 2_000, temperature=0.3),
    Crowd("5 000 requests, temperature 3", 5_000, 2_000, temperature=3.0),
    Crowd("5 000 requests, rare clicks", 5_000, 2_000, level=-5.0),
    Crowd("5 000 requests, a few users most active", 5_000, 2_000, activity=1.7),
    Crowd("5 000 requests of 300 users, strong tastes", 5_000, 300, taste=2.0),
)


@dataclass(frozen=True)
class World:
    """m requests: what is true of their items, and what both models say of them."""

    bucket: NDArray[np.int64]
    """`(m,)`"""
    true: Floats
    """Click probability at the first place, `(m, n)`."""
    served: Floats
    """Logits of the served model, `(m, n)`."""
    target: Floats
    """Logits of the target policy, `(m, n)`."""


def world(crowd: Crowd, random: np.random.Generator) -> World:
    """Requests of a new crowd of users."""
    activity = np.exp(random.normal(0, crowd.activity, crowd.users))
    user = random.choice(crowd.users, size=crowd.requests, p=activity / activity.sum())
    taste = random.normal(0, crowd.taste, crowd.users)
    logit = crowd.level + taste[user, None] + random.normal(0, 1.0, (crowd.requests, ITEMS))
    served, target = (logit + random.normal(0, noise, logit.shape) for noise in (1.0, 0.4))
    return World(random.integers(BUCKETS, size=crowd.users)[user], special.expit(logit + _FIRST), served, target)


@dataclass(frozen=True)
class Draws:
    """How the first places of m requests were drawn."""

    chances: Floats
    """`(m, n)`"""
    drawn: NDArray[np.int64]
    """`(m,)`"""


def chances_of(requests: World, temperature: float) -> Floats:
    """The propensities of `model.exploration` for all requests together, `(m, n)`."""
    return np.asarray((1 - UNIFORM) * special.softmax(requests.served / temperature, axis=1) + UNIFORM / ITEMS)


def explore(requests: World, temperature: float, random: np.random.Generator) -> tuple[Explored, Draws]:
    """The log of these requests, each explored by the rule of `model.exploration`."""
    chances = chances_of(requests, temperature)
    points = random.random((len(chances), 1)) * chances.sum(axis=1, keepdims=True)
    drawn = np.minimum((chances.cumsum(axis=1) <= points).sum(axis=1), ITEMS - 1)
    rows = np.arange(len(drawn))
    click = (random.random(len(drawn)) < requests.true[rows, drawn]).astype(np.float64)
    return Explored(click, chances[rows, drawn], requests.bucket), Draws(chances, drawn)


def choosing(requests: World, logit: Floats, draws: Draws) -> TargetPolicy:
    """The policy that puts the largest `logit` first; the served model predicts."""
    drawn, chosen = draws.drawn, logit.argmax(axis=1)
    rows, predicted = np.arange(len(drawn)), special.expit(requests.served)
    chance, square = (chosen == drawn).astype(np.float64), 1.0 / draws.chances[rows, chosen]
    return TargetPolicy(chance, predicted[rows, drawn], predicted[rows, chosen], square)


@dataclass(frozen=True)
class Truths:
    """True clicks per request at the first place."""

    served: float
    target: float
    explored: float
    """Of explored requests."""


def truths(crowd: Crowd, random: np.random.Generator) -> Truths:
    """By a crowd so large that chance hardly matters."""
    many = world(replace(crowd, requests=_TRUTH, users=_TRUTH, activity=0.0), random)
    rows = np.arange(_TRUTH)
    served, target = (float(many.true[rows, logit.argmax(axis=1)].mean()) for logit in (many.served, many.target))
    drawn = (chances_of(many, crowd.temperature) * many.true).sum(axis=1)
    return Truths(served, target, float(drawn.mean()))


Row = dict[str, Estimate | None]


def play(crowd: Crowd, random: np.random.Generator) -> tuple[Row, float]:
    """What every method says about one stream (None if it refuses), and the expected effective sample."""
    requests = world(crowd, random)
    rows, effective = judge(requests, crowd.temperature, random)
    rows["experiment, difference"] = experiment(requests, random)
    return rows, effective


def judge(requests: World, temperature: float, random: np.random.Generator) -> tuple[Row, float]:
    """The same for given requests, without the experiment."""
    logged, draws = explore(requests, temperature, random)
    target, served = (choosing(requests, logit, draws) for logit in (requests.target, requests.served))
    found = estimate(logged, target)
    same = target.chance > 0
    naive = _mean(logged.click[same], requests.bucket[same])
    rows: Row = {"IPS": found.ips, "SNIPS": found.snips, "DR": found.dr, "replay without propensities": naive}
    rows["DR, difference"] = difference(logged, target, served)
    return rows, found.expected


def experiment(requests: World, random: np.random.Generator) -> Estimate:
    """Half of the users are served by the target policy, half by the served model; as many requests in all."""
    treated = requests.bucket % 2 == 0
    rows, chosen = np.arange(len(treated)), np.where(treated, requests.target.argmax(1), requests.served.argmax(1))
    click = (random.random(len(treated)) < requests.true[rows, chosen]).astype(np.float64)
    one, other = (_mean(click[part], requests.bucket[part]) for part in (treated, ~treated))
    half = float(np.hypot(one.high - one.value, other.high - other.value))
    value = one.value - other.value
    return Estimate(value, value - half, value + half)


def _mean(values: Floats, bucket: NDArray[np.int64]) -> Estimate:
    totals = (np.bincount(bucket, weights=part, minlength=BUCKETS) for part in (values, np.ones_like(values)))
    value, variance, freedom = jackknife(*totals)
    half = float(special.stdtrit(freedom, 0.975)) * float(np.sqrt(variance))
    return Estimate(value, value - half, value + half)


def _cells(found: Sequence[Estimate | None], truth: float) -> list[str]:
    """Bias, coverage, half the width, and the share of refusals."""
    given = [one for one in found if one is not None]
    refused = f"{1 - len(given) / len(found):.1%}"
    if not given:
        return ["", "", "", refused]
    errors = np.array([one.value - truth for one in given])
    covered = np.array([one.low <= truth <= one.high for one in given])
    bias = f"{errors.mean():+.4f} ± {_NORMAL * errors.std() / np.sqrt(len(errors)):.4f}"
    spread = _NORMAL * float(np.sqrt(covered.mean() * (1 - covered.mean()) / len(covered)))
    half = np.mean([(one.high - one.low) / 2 for one in given])
    return [bias, f"{covered.mean():.1%} ± {spread:.1%}", f"{half:.4f}", refused]


def table(title: str, played: Sequence[tuple[Row, float]], truth: Truths) -> Table:
    """Bias, coverage and width by method."""
    effective = np.mean([size for _, size in played])
    shown = Table(
        "method", "bias", "truth in the 95 % interval", "half width", "refused",
        title=f"{title}: served {truth.served:.4f}, explored {truth.explored:.4f}, target {truth.target:.4f}; "
        f"effective sample {effective:,.0f}",
    )  # fmt: skip
    for method in played[0][0]:
        aim = truth.target - truth.served if "difference" in method else truth.target
        shown.add_row(method, *_cells([rows[method] for rows, _ in played], aim))
    return shown


def main() -> int:
    """Prints bias, coverage and width by crowd and method."""
    console = Console(width=130)
    console.print(
        f"{STREAMS} streams each; clicks per request at the first place; ± is the 95 % error of the simulation"
    )
    for number, crowd in enumerate(CROWDS):
        random = np.random.default_rng([_SEED, number])
        truth = truths(crowd, random)
        console.print(table(crowd.name, [play(crowd, random) for _ in range(STREAMS)], truth))
    return 0

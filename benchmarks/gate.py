"""False alarms of the gate's test over 10 000 streams without harm, and its delay on streams with harm.

Both arms of a stream have errors of the same distribution on the true logit, so neither is worse: the limit of what the
test must tolerate. A user's taste is common to the items of a request, and a user's errors are the same throughout a
session. The test is the gate's own (`model.gate.evidence.HarmEvidence`), with streams in the place of comparisons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from model.gate.config import GateConfig
from model.gate.evidence import HarmEvidence
from model.gate.harm import COMPARISONS, log_losses

STREAMS, REQUESTS, ITEMS = 10_000, 1_000, 10
_AT_ONCE = 50
_STRATA = 16
"""Number of strata of a group with three scenes, seven regions and five periods."""
_ERROR_USER, _ERROR_ITEM = 0.25, 0.25
"""Deviations of an arm's error, logits: its loss is then 2 to 3 % above that of the truth."""


@dataclass(frozen=True)
class World:
    """Dependence between requests, and the first arm's error."""

    name: str
    session: int = 1
    """Requests in a row of one user."""
    bias: float = 0.0
    """Logits added to the first arm from `onset` on."""
    onset: int = 0


def differences(world: World, streams: int, requests: int, seed: int = 0) -> Iterator[NDArray[np.float64]]:
    """Mean log loss of a request of the first arm above the second, `(requests, streams)` a part."""
    random = np.random.default_rng(seed)

    def normal(scale: float, *shape: int) -> NDArray[np.float32]:
        return scale * random.standard_normal(shape, dtype=np.float32)

    taste, errors = normal(0.7, streams, 1), normal(_ERROR_USER, 2, streams, 1)
    for begin in range(0, requests, _AT_ONCE):
        rows = []
        for request in range(begin, min(begin + _AT_ONCE, requests)):
            if request % world.session == 0:
                taste, errors = normal(0.7, streams, 1), normal(_ERROR_USER, 2, streams, 1)
            logit = -1.4 + taste + normal(0.9, streams, ITEMS)
            label = (random.random((streams, ITEMS), dtype=np.float32) < 1 / (1 + np.exp(-logit))).astype(np.float32)
            first, second = (logit + error + normal(_ERROR_ITEM, streams, ITEMS) for error in errors)
            if request >= world.onset:
                first = first + world.bias
            rows.append((log_losses(first, label) - log_losses(second, label)).mean(axis=1))
        yield np.stack(rows).astype(np.float64)


def first_alarms(world: World, thresholds: Sequence[float], streams: int, requests: int) -> NDArray[np.int64]:
    """Request at which each stream's evidence first reached each threshold, `(thresholds, streams)`; else -1."""
    evidence = HarmEvidence(streams, 1)
    first = np.full((len(thresholds), streams), -1)
    request = 0
    inside = np.ones((1, 1), dtype=np.bool_)
    for part in differences(world, streams, requests):
        for rows in np.split(part, len(part)):  # at every request: between two looks it may rise and fall again
            evidence.update(rows, inside)
            request += 1
            value = evidence.value[0]
            for row, threshold in zip(first, thresholds, strict=True):
                row[(row < 0) & (value >= threshold)] = request
    return first


def used_threshold() -> float:
    """The threshold that is used, of a group with `_STRATA` strata."""
    return GateConfig().false_alarm_requests * len(COMPARISONS) * _STRATA


def false_alarms(console: Console, streams: int, requests: int) -> None:
    """Prints the share of streams without harm in which the evidence ever reached a threshold."""
    used = used_threshold()
    thresholds = (1e3, 1e4, 1e5, used)
    table = Table(
        "threshold", "bound", "requests apart", "sessions of 5", "sessions of 20",
        title=f"False alarms in {streams:,} streams of {requests:,} requests without harm",
    )  # fmt: skip
    worlds = [World("apart"), World("5", session=5), World("20", session=20)]
    found = [(first_alarms(world, thresholds, streams, requests) >= 0).mean(axis=1) for world in worlds]
    for index, threshold in enumerate(thresholds):
        bound = min(1.0, requests / threshold)
        name = f"{threshold:,.0f}" + (" (as configured)" if threshold == used else "")
        table.add_row(name, f"{bound:.3%}", *(f"{share[index]:.3%}" for share in found))
    console.print(table)


def delays(console: Console, streams: int) -> None:
    """Requests from the onset of harm until it is found, at the threshold that is used."""
    onset = 500
    table = Table(
        "logits off",
        "log loss, nats",
        "median",
        "90 % within",
        "found",
        title=f"Requests until harm is found ({streams} streams)",
    )
    for bias in (0.25, 0.5, 1.0, 2.0, 4.0):
        world = World("harm", session=5, bias=bias, onset=onset)
        cost = np.concatenate(list(differences(World("cost", bias=bias), 400, 500, seed=1))).mean()
        found = first_alarms(world, (used_threshold(),), streams, 6_000)[0]
        late = np.where(found < 0, 10**9, found - onset)
        middle, most = np.quantile(late, [0.5, 0.9], method="higher")
        cells = (f"{value:,.0f}" if value < 10**8 else "not in 5 500" for value in (middle, most))
        table.add_row(f"{bias}", f"{cost:+.4f}", *cells, f"{(found >= 0).mean():.0%}")
    console.print(table)


def main() -> int:
    """Prints the tables of false alarms and of detection delays."""
    console = Console()
    false_alarms(console, STREAMS, REQUESTS)
    delays(console, STREAMS // 100)
    return 0

"""Updating and reading live features, beside per-event dictionaries of T alone as one would write them first."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.crossed import CROSSING, item_values
from features.config import LiveConfig
from features.live.features import LiveFeatures, LiveLayout, RequestItems
from features.live.layout import Floats
from features.live.outcome import RequestOutcome
from model.encoding.domain import Domain

_USERS, _ITEMS, _WIDTH = 20_000, 5_000, 16
_BATCHES, _REQUESTS, _PER_REQUEST = 400, 13, 10


class Dictionaries:
    """The sums of T, one event at a time."""

    def __init__(self, config: LiveConfig, width: int) -> None:
        self._half_lives = config.half_lives_s
        self._width = width + 1
        self._rows: dict[tuple[str, str], tuple[float, list[object]]] = {}

    def update(self, outcomes: Sequence[RequestOutcome]) -> None:
        """Adds decided requests."""
        for outcome in outcomes:
            for item, content, residual in zip(outcome.items, outcome.content, outcome.residual, strict=True):
                design = np.append(content / np.linalg.norm(content), 0.5)
                pull = residual * design
                self._add("item", item, outcome.time, [1.0, residual])
                self._add("domain", outcome.domain.key, outcome.time, [1.0, residual, pull])
                self._add("domain", "*", outcome.time, [1.0, residual, pull])
                self._add("user", outcome.user_id, outcome.time, [1.0, residual, pull, np.outer(design, design)])

    def _add(self, kind: str, key: str, now: float, added: Sequence[object]) -> None:
        before, sums = self._rows.get((kind, key), (now, []))
        faded: list[object] = []
        for half, half_life in enumerate(self._half_lives):
            factor = 0.5 ** ((now - before) / half_life)
            old = sums[half * len(added) : (half + 1) * len(added)] or [0.0] * len(added)
            faded += [value * factor + new for value, new in zip(old, added, strict=True)]
        self._rows[kind, key] = now, faded


def main() -> int:
    """Prints updates per second and the time to read the live features of 100 candidates."""
    console = Console()
    table = Table(
        "what",
        "updates/s",
        "per batch of 130",
        "read for 100 items",
        title=f"Live features, content of {_WIDTH}, one core",
    )
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(_ITEMS, _WIDTH)).astype(np.float32)
    stream = [_batch(rng, vectors, 0.1 * number) for number in range(_BATCHES)]
    config = LiveConfig()
    plain = Dictionaries(config, _WIDTH)
    slow = _rate(plain.update, stream[: _BATCHES // 10])
    table.add_row("dictionaries, event by event", f"{slow:,.0f}", f"{1e6 * 130 / slow:,.0f} us", "")
    layout = LiveLayout.of(config, _WIDTH, CROSSING)
    live = LiveFeatures(layout, config)
    live.update(stream[0])
    rate = _rate(live.update, stream[1:])
    speed = f"{rate:,.0f} ({rate / slow:.1f} x)"
    name = f"LiveFeatures with counters, k={layout.width}"
    table.add_row(name, speed, f"{1e6 * 130 / rate:,.0f} us", f"{_read_us(live, vectors):,.0f} us")
    console.print(table)
    return 0


def _batch(rng: np.random.Generator, vectors: Floats, now: float) -> list[RequestOutcome]:
    made = []
    for _ in range(_REQUESTS):
        items = rng.integers(0, _ITEMS, _PER_REQUEST)
        residual = rng.uniform(-1, 1, _PER_REQUEST).astype(np.float32)
        made.append(
            RequestOutcome(
                user_id=f"u{rng.integers(_USERS)}",
                domain=Domain("home", f"zip{rng.integers(10)}", "night"),
                items=[f"i{item}" for item in items],
                content=vectors[items],
                values=item_values(items),
                click=(residual > 0).astype(np.float32),
                residual=residual,
                time=now,
            )
        )
    return made


def _rate(update: Callable[[Sequence[RequestOutcome]], None], stream: Sequence[Sequence[RequestOutcome]]) -> float:
    """Item updates per second of this process's own time: other processes on the machine do not count."""
    began = time.process_time()
    for batch in stream:
        update(batch)
    return len(stream) * _REQUESTS * _PER_REQUEST / (time.process_time() - began)


def _read_us(live: LiveFeatures, vectors: Floats) -> float:
    items = [f"i{item}" for item in range(100)]
    request = RequestItems(Domain("home", "zip1", "night"), vectors[:100], item_values(np.arange(100)))
    began = time.process_time()
    for user in range(500):
        live.features(100.0, f"u{user}", request, items)
    return 1e6 * (time.process_time() - began) / 500

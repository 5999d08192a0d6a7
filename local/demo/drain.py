"""Waiting until everything that was played has been learned."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from local.probe import scrape
from local.replay.publish import ingest_lag
from streaming.clients import make_admin
from streaming.config import Config

_ASK_EVERY_S = 0.1
_STILL_S = 4.0


class StuckError(Exception):
    """The played stream is not being learned; the message says how far learning got and where to look."""


@dataclass(frozen=True)
class LearningProgress:
    """How far the processor has learned the replayed traffic."""

    examples: int
    """Examples learned since the processor started."""
    waiting: int
    """Records of `traffic` not processed and requests whose window is open."""
    dropped: dict[str, int]
    """Records the join could not use, by reason."""
    seen_at: float
    """Wall clock of this look, seconds since the epoch."""

    @classmethod
    def look(cls, config: Config) -> LearningProgress:
        """Asks the processor. Raises OSError if it does not answer."""
        metrics = scrape(config.processor.metrics_port)
        return cls(
            examples=int(metrics.total("driftline_examples_learned_total")),
            waiting=int(metrics.total("driftline_processor_lag_records") + metrics.total("driftline_open_requests")),
            dropped=metrics.by("driftline_join_dropped_total", "reason"),
            seen_at=time.time(),
        )


def wait_until_learned(
    config: Config, expected: int, *, timeout_s: float, progress: Callable[[int], None] | None = None
) -> LearningProgress:
    """Waits until `expected` examples are learned, or until nothing is left to learn; returns the last look.

    Fewer than `expected` is possible: what was dropped on the way is never learned. `progress` gets the examples
    learned so far. Raises StuckError when records wait and nothing moved for `timeout_s` seconds.
    """
    now = LearningProgress.look(config)
    moved = time.monotonic()
    with make_admin(config.kafka) as admin:
        while now.examples < expected:
            if progress is not None:
                progress(now.examples)
            time.sleep(_ASK_EVERY_S)
            before, now = now, LearningProgress.look(config)
            if (before.examples, before.waiting) != (now.examples, now.waiting):
                moved = time.monotonic()
                continue
            still = time.monotonic() - moved
            if still < _STILL_S:
                continue
            behind = ingest_lag(admin, config)
            if behind == 0 and now.waiting == 0:
                break
            if still > timeout_s:
                left = "an unknown number of" if behind is None else f"{behind:,}"
                raise StuckError(
                    f"{now.examples:,} of {expected:,} examples are learned and nothing moved for {timeout_s:.0f} s: "
                    f"{left} records wait for ingest and {now.waiting:,} for the processor; look at their logs"
                )
    if progress is not None:
        progress(now.examples)
    return now

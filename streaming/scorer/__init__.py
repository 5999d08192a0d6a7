"""The scorer: HTTP in, ranked scores out, impressions to the log, kernels from the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streaming.config import Config


def run_scorer(config: Config) -> int:
    """Serves until SIGTERM or SIGINT; the exit code, 0 unless something failed. Loads torch and Feast only now."""
    from streaming.scorer.run import run_scorer as run

    return run(config)

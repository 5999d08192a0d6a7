"""The scorer: ranks candidates over HTTP, logs impressions, and takes new kernels from the kernel log."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streaming.config import Config


def run_scorer(config: Config) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit code, 0 unless something failed. Imports torch and Feast
    here."""
    from streaming.scorer.run import run_scorer as run

    return run(config)

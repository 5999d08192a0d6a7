"""Every Prometheus metric of the system, declared once, with its unit and meaning.

Each file declares one section of `docs/metrics.md`. A user names the section: `metrics.scorer.KERNELS_TAKEN`.
"""

from prometheus_client import disable_created_metrics

from streaming.monitoring.metrics import drift, every_process, features, ingest, join, kernel_log, learner, scorer

disable_created_metrics()  # type: ignore[no-untyped-call] # `_created` series add a line per counter that nobody reads

SECTIONS = (ingest, join, learner, drift, kernel_log, features, scorer, every_process)
"""The sections in the order of the page."""

__all__ = ["SECTIONS", "drift", "every_process", "features", "ingest", "join", "kernel_log", "learner", "scorer"]

"""What the metrics package declares, and what expressions name of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from prometheus_client import REGISTRY

from streaming.monitoring import metrics
from tests.streaming.monitoring.prometheus_server import rules


def declared() -> dict[str, set[str]]:
    """Every sample name that a process can expose, with the labels of its metric."""
    names: dict[str, set[str]] = {}
    for collector, samples in REGISTRY._collector_to_names.items():
        for name in samples:
            if name.startswith("driftline_"):
                names[name] = set(getattr(collector, "_labelnames", ()))
    assert metrics.scorer.FRESHNESS_SECONDS in REGISTRY._collector_to_names
    return names


def recorded() -> dict[str, str]:
    """Every recorded name with its expression."""
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def metrics_in(expr: str) -> set[str]:
    """Names of our metrics in an expression."""
    return set(re.findall(r"\bdriftline_\w+", expr))


def records_in(expr: str) -> set[str]:
    """Recorded names in an expression."""
    return set(re.findall(r"\bdriftline:[\w:]+", expr))


def matchers_in(expr: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric that is matched by labels, with those labels."""
    for name, matchers in re.findall(r"\b(driftline_\w+)\{([^}]*)\}", expr):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))

"""Queries of the chosen kernel groups, as the learning dashboard asks them."""

from __future__ import annotations


def of_group(metric: str, *labels: str) -> str:
    """The maximum over all processes that report the metric."""
    return f'max by ({", ".join(("group", *labels))}) ({metric}{{group=~"$group"}})'


def rate(metric: str, *labels: str, over: str = "1m") -> str:
    """The rate per second of a counter, over all processes."""
    return f'sum by ({", ".join(("group", *labels))}) (rate({metric}{{group=~"$group"}}[{over}]))'


def p99(metric: str, *labels: str) -> str:
    """The 99th percentile of a histogram over a minute; without labels of all that report it."""
    series = f'{metric}_bucket{{group=~"$group"}}' if labels else f"{metric}_bucket"
    return f"histogram_quantile(0.99, sum by ({', '.join((*labels, 'le'))}) (rate({series}[1m])))"

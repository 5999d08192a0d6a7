"""A process that exposes every metric with data, for each failure: `python -m ...exporter PORT`."""

from __future__ import annotations

import itertools
import re
import sys
import time

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from model.drift.verdict import VerdictKind
from streaming.monitoring import metrics
from streaming.monitoring.health import HealthServer
from tests.streaming.monitoring.prometheus_server import rules
from tests.streaming.monitoring.queries import asked

ALL_METRICS = [
    value for section in metrics.SECTIONS for value in vars(section).values() if isinstance(value, MetricWrapperBase)
]
EXPRESSIONS = [*(query.expr for query in asked()), *(rule["expr"] for rule in rules())]
BESIDES = {
    "verdict": {str(kind) for kind in VerdictKind},
    "arm": {"frozen", "live"},
    "stratum": {"group", "scene=home"},
    "view": {"user_profile"},
}
"""What records and rules ask for besides."""


def label_values(name: str, label: str) -> set[str]:
    """Values that some query asks for, or any."""
    exact = rf'\b{name}(?:_total|_bucket)?{{[^}}]*\b{label}=~?"([^"$]+)"'
    wanted = {value for expr in EXPRESSIONS for found in re.findall(exact, expr) for value in found.split("|")}
    return wanted | BESIDES.get(label, set()) or {"some"}


def export(metric: MetricWrapperBase) -> None:
    """One more value of each of its series."""
    of_each = [sorted(label_values(metric._name, label)) for label in metric._labelnames]
    for values in itertools.product(*of_each):
        series = metric.labels(*values) if values else metric
        if isinstance(series, Counter):
            series.inc()
        elif isinstance(series, Gauge):
            series.set(1)
        elif isinstance(series, Histogram):
            series.observe(0.5)


def main(port: int) -> None:
    """Until it is ended."""
    with HealthServer("127.0.0.1", port, {}):
        while True:
            for metric in ALL_METRICS:
                export(metric)
            time.sleep(0.5)


if __name__ == "__main__":
    main(int(sys.argv[1]))

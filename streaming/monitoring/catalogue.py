"""The catalogue of metrics as a page (Markdown): name, type, unit, labels and meaning of every metric."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from streaming.monitoring import metrics

UNITS = {
    "timestamp_seconds": "seconds since the epoch",
    "seconds": "seconds",
    "bytes": "bytes",
    "ratio": "ratio",
    "nats": "nats",
    "log_loss": "nats per example",
    "records": "records",
    "examples": "examples",
}
"""Endings of metric names, without `_total`, and their units; the first match counts. Others are plain numbers."""

_TYPES: dict[type[MetricWrapperBase], str] = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}


@dataclass(frozen=True)
class MetricEntry:
    """One metric in the catalogue."""

    section: str
    """The part of the system that exposes it."""
    name: str
    """Its name in a query; a histogram's series add `_bucket`, `_sum` and `_count`."""
    type: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def unit(self) -> str:
        """The unit, from the name's ending."""
        stem = self.name.removesuffix("_total")
        return next((unit for end, unit in UNITS.items() if stem.endswith(f"_{end}")), "number")


def entries() -> Iterator[MetricEntry]:
    """Every metric of the system in the order of its declaration."""
    for section in metrics.SECTIONS:
        name = section.__name__.rpartition(".")[2].replace("_", " ")
        for declared in vars(section).values():
            if isinstance(declared, MetricWrapperBase):
                yield _entry(name, declared)


def as_markdown() -> str:
    """The page `docs/metrics.md`."""
    parts = [
        "# Metrics",
        "Made by `driftline metrics`; do not edit by hand. Every process answers `GET /metrics` on its `metrics_port`. "
        "What each alert on them asks of you: [runbooks](runbooks.md).",
        "Names follow Prometheus's conventions: base units, `_total` for counters, `_ratio` for shares and "
        "quotients. No label holds a user, an item or a request. `group` is a kernel group; `stratum` is a part of it "
        "whose drift is judged separately (`group` is the whole, `scene=home` one declared value of a facet; an "
        "undeclared value is `unknown`); `arm` is a model that is measured.",
    ]
    rows: dict[str, list[MetricEntry]] = {}
    for entry in entries():
        rows.setdefault(entry.section, []).append(entry)
    for section, held in rows.items():
        parts += [f"## {section.capitalize()}", _table(held)]
    return "\n\n".join(parts)


def _entry(section: str, metric: MetricWrapperBase) -> MetricEntry:
    kind = _TYPES[type(metric)]
    name = metric._name + ("_total" if kind == "counter" else "")
    return MetricEntry(section, name, kind, tuple(metric._labelnames), metric._documentation)


def _table(rows: list[MetricEntry]) -> str:
    lines = ["| metric | type | unit | labels | meaning |", "| -- | -- | -- | -- | -- |"]
    for entry in rows:
        labels = ", ".join(f"`{label}`" for label in entry.labels) or "-"
        meaning = re.sub(r"\(docs/(\w+)\.md\)", r"([\1](\1.md))", entry.meaning).replace("|", "\\|")
        lines.append(f"| `{entry.name}` | {entry.type} | {entry.unit} | {labels} | {meaning} |")
    return "\n".join(lines)

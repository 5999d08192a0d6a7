"""Reads the endpoints of Driftline's processes on this machine."""

from __future__ import annotations

import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.samples import Sample

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_TIMEOUT_S = 5.0


def get(url: str, headers: Mapping[str, str] | None = None) -> bytes:
    """The body at `url`, past any proxy. Raises OSError if nothing answers in time or the answer is no success."""
    with _DIRECT.open(urllib.request.Request(url, headers=dict(headers or {})), timeout=_TIMEOUT_S) as answer:
        body: bytes = answer.read()
    return body


def scrape(port: int) -> Scraped:
    """Prometheus metrics of a process. Raises OSError."""
    from prometheus_client.parser import text_string_to_metric_families

    families = text_string_to_metric_families(get(f"http://127.0.0.1:{port}/metrics").decode())
    return Scraped([sample for family in families for sample in family.samples])


@dataclass(frozen=True)
class Scraped:
    """The metrics of one process at one time."""

    samples: Sequence[Sample]

    def total(self, name: str) -> float:
        """A metric summed over its labels; 0 if it has no sample."""
        return sum(sample.value for sample in self.samples if sample.name == name)

    def by(self, name: str, label: str) -> dict[str, int]:
        """A counter by the values of one label, those that count anything."""
        counts: Counter[str] = Counter()
        for sample in self.samples:
            if sample.name == name and sample.value:
                counts[sample.labels[label]] += int(sample.value)
        return dict(counts)

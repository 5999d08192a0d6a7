"""Series in promtool's notation as the past of a real Prometheus."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.streaming.monitoring.prometheus_server import tool

_STEP_S = 15
"""Between two samples: a window of a minute holds some, wherever it ends."""
_RUN = re.compile(r"(?P<first>_|NaN|-?[\d.]+)(?P<by>[+-][\d.]+)?(?:x(?P<more>\d+))?$")


def sample_values(text: str) -> Iterator[float | None]:
    """One value a minute; None where there is no sample."""
    for run in text.split():
        found = _RUN.match(run)
        assert found, run
        more = int(found["more"] or 0)
        if found["first"] == "_":
            yield from [None] * max(more, 1)
        else:
            yield from (float(found["first"]) + float(found["by"] or 0) * place for place in range(more + 1))


def backfill(series: Mapping[str, str], minutes: int, now: float, folder: Path) -> None:
    """Writes the first `minutes` of the series into `folder / "data"`, so that they end at `now`.

    Counters rise evenly within a minute, gauges stand. What is a time of day is moved along.
    """
    start = now - 60 * minutes
    lines = [line for name, text in series.items() for line in _lines(name, list(sample_values(text)), start, now)]
    path = folder / "past.txt"
    path.write_text("\n".join([*lines, "# EOF"]) + "\n")
    _promtool("tsdb", "create-blocks-from", "openmetrics", str(path), str(folder / "data"))


def _lines(name: str, values: list[float | None], start: float, now: float) -> Iterator[str]:
    counts = name.partition("{")[0].endswith(("_total", "_bucket"))
    shift = start if name.startswith("driftline_watermark_timestamp_seconds") else 0.0
    for minute, (value, following) in enumerate(zip(values, [*values[1:], None], strict=True)):
        if value is None:
            continue
        slope = (following - value) / 60 if counts and following is not None and following >= value else 0.0
        if shift:
            slope = 1.0 if following is not None and following > value else 0.0
        for second in range(0, 60, _STEP_S):
            time = start + 60 * minute + second
            if time < now - 1:
                yield f"{name} {value + shift + slope * second} {time:.3f}"


def _promtool(*arguments: str) -> None:
    done = subprocess.run([tool("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

"""Memory and disk do not grow over an hour, or `make chaos SOAK_MINUTES=..`, at a steady pace."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from local.watchdog import Watchdog
from tests.chaos.conftest import Sizes, Tell, only_long
from tests.chaos.stack import made_stack, small_config
from tests.chaos.verdicts import check_all

SAMPLE_S = 5.0
SHARE_PER_HOUR = 0.01
NOISE = 4 * 2**20
"""Bytes by which a resident set moves to and fro; a short soak cannot tell less from growth."""
REMEMBERED_S = 60.0
"""How long closed requests are kept for late feedback: so short that the index is full long before memory is judged.

With the default of an hour it grows through the first hour, here by 5 kB a second, up to `join.horizon_bytes`.
"""


@only_long
@pytest.mark.timeout(24 * 3_600)
def test_memory_stays_flat_and_commits_follow_what_changed(
    tmp_path: Path, watchdog: Watchdog, sizes: Sizes, tell: Tell
) -> None:
    waits = {"horizon_s": REMEMBERED_S, "conversion_window_s": REMEMBERED_S}
    join = small_config(tmp_path, [], "").join.model_copy(update=waits)
    with made_stack(tmp_path / "run", watchdog, join=join) as stack:
        for role in ("ingest", "processor", "scorer"):
            stack.add(role)
        stack.wait_ready()
        driver = stack.drive(seed=14, rate=14.0)
        samples: dict[str, list[tuple[float, int]]] = {name: [] for name in stack.members}
        began = time.monotonic()
        bytes_before = stack.metrics("processor-1").total("driftline_commit_bytes_total")
        while (at := time.monotonic() - began) < 60 * sizes.soak_minutes:
            for name, member in stack.members.items():
                samples[name].append((at, member.memory()))
            time.sleep(SAMPLE_S)
        committed = stack.metrics("processor-1").total("driftline_commit_bytes_total") - bytes_before
        seen = check_all(stack.config, driver.stop())
    told = [f"{committed / at * 86_400 / 1e9:.2f} GB committed a day"]
    for name, points in samples.items():
        seconds, resident = np.asarray(points[len(points) // 3 :], dtype=np.float64).T
        slope = float(np.polyfit(seconds, resident, 1)[0]) * 3_600
        hours = (seconds[-1] - seconds[0]) / 3_600
        told.append(f"{name} {resident.mean() / 2**20:.0f} MB, {slope / resident.mean():+.1%} an hour")
        assert slope * hours < max(SHARE_PER_HOUR * hours * resident.mean(), NOISE), told
    tell(f"{sizes.soak_minutes:.0f} minutes at 14 requests a second", "; ".join([*told, seen]))

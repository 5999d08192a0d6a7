"""One request's reads and one push of live rows, through Driftline's store and through Feast's own high-level calls."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.crossed import CROSSING
from features.config import FeatureConfig, LiveConfig
from features.live.features import LiveLayout, LiveRow
from features.live.layout import OVERALL, Kind
from features.store.feast_guard import import_feast
from features.store.feature_store import FeatureStore
from tests.redis_server import redis_server

_ITEMS = [f"i{number}" for number in range(100)]
_DOMAIN = "home/zip1/night"
_ROUNDS = 30


def main() -> int:
    """Prints milliseconds per call, beside Feast's `get_online_features` and `push`."""
    table = Table("online store", "call", "ours", "Feast's own", "ratio", title="Feature store, milliseconds per call")
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as address:
        for name, keys in (("SQLite", {}), ("Redis", {"online_store": "redis", "redis": address})):
            store = FeatureStore(FeatureConfig.model_validate(keys), Path(folder) / name)
            store.apply()
            rows = _rows()
            store.push_live(rows)
            feast = import_feast().FeatureStore(config=store.online.repo_config)
            reading = "1 user, 100 items, 2 domains"
            writing = f"push of {len(rows)} rows (13 requests)"
            pairs: tuple[tuple[str, Callable[[], None], Callable[[], None]], ...] = (
                (reading, partial(_read, store), partial(_read_by_feast, feast)),
                (writing, partial(store.push_live, rows), partial(_push_by_feast, feast, rows)),
            )
            for call, ours, theirs in pairs:
                quick, slow = _milliseconds(ours), _milliseconds(theirs)
                table.add_row(name, call, f"{quick:.1f}", f"{slow:.1f}", f"{slow / quick:.1f} x")
    Console().print(table)
    return 0


def _rows() -> list[LiveRow]:
    layout = LiveLayout.of(LiveConfig(), 16, CROSSING)
    rng = np.random.default_rng(0)
    keys: dict[Kind, list[str]] = {
        "user": [f"u{number}" for number in range(13)],
        "item": [f"i{number}" for number in range(130)],
        "domain": [_DOMAIN, OVERALL, *(f"home/zip{number}/day" for number in range(8))],
    }
    return [
        LiveRow(kind, key, 1.0, rng.normal(size=layout.width_of(kind)).astype(np.float32))
        for kind, names in keys.items()
        for key in names
    ]


def _read(store: FeatureStore) -> None:
    store.read_live("user", ["u1"], 1.0)
    store.read_live("domain", [_DOMAIN, OVERALL], 1.0)
    store.read_live("item", _ITEMS, 1.0)


def _read_by_feast(feast: Any) -> None:
    entities: dict[str, list[str]] = {"user": ["u1"], "domain": [_DOMAIN, OVERALL], "item": _ITEMS}
    for kind, keys in entities.items():
        features = [f"live_{kind}:values", f"live_{kind}:updated_at"]
        feast.get_online_features(features, [{f"{kind}_id": key} for key in keys]).to_dict()


def _push_by_feast(feast: Any, rows: list[LiveRow]) -> None:
    import pandas as pd

    now = pd.Timestamp.now(tz="UTC")
    for kind in ("user", "item", "domain"):
        chosen = [row for row in rows if row.kind == kind]
        frame = {
            f"{kind}_id": [row.key for row in chosen],
            "values": [row.values.tolist() for row in chosen],
            "updated_at": [row.updated_at for row in chosen],
            "event_timestamp": [now] * len(chosen),
        }
        feast.push(f"live_{kind}_push", pd.DataFrame(frame))


def _milliseconds(call: Callable[[], None]) -> float:
    call()
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 1e3 * float(np.median(times))

"""Logs of forty interactions for tests, as files of every kind."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lab.streams import Chunk, Stream
from lab.streams.logged.logs import open_log

BEGIN = pd.Timestamp("2026-01-01 09:00", tz="UTC")


SECONDS = [BEGIN.timestamp() + 600.0 * n for n in range(40)]


MAPPING = "interactions: {{user: user, item: item, time: {time}, label: {label}}}\n{more}"


USERS = "users: {path: users.csv, key: id, fields: {job: {}, age: {kind: number}, tags: {kind: multi}}}"


def frame(**columns: object) -> pd.DataFrame:
    usual = {
        "user": [f"u{n % 9}" for n in range(40)],
        "item": [f"i{n % 7}" for n in range(40)],
        "time": SECONDS,
        "label": [n % 2 for n in range(40)],
    }
    return pd.DataFrame(usual | columns)


def opened(folder: Path, log: Path, time: str = "time", label: str = "label", more: str = "") -> Stream:
    mapping = folder / "m.yaml"
    mapping.write_text(MAPPING.format(time=time, label=label, more=more), encoding="utf-8")
    return open_log(mapping, log)


def times(stream: Stream) -> list[float]:
    chunk = Chunk.concat([*stream.chunks("pretrain"), *stream.chunks("live")])
    return sorted(set(chunk.time.tolist()))


def parquet(folder: Path, **columns: object) -> Path:
    frame(**columns).to_parquet(folder / "log.parquet")
    return folder / "log.parquet"


CSV = frame().to_csv(index=False)

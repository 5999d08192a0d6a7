"""A small made-up catalogue with the shape of the real one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.profiles import ItemProfile, UserProfile
from lab.streams import Chunk, RealItems, Script, ScriptedStream, parse_script
from lab.streams.stream import Half
from model.config import FieldSpec
from model.encoding.spelling import FieldValue

GENRES = ("Action", "Comedy", "Drama", "Horror", "Musical", "War")


def real_items(items: int = 300, users: int = 120) -> RealItems:
    rng = np.random.default_rng(5)
    films = []
    for n in range(items):
        genres = [str(g) for g in rng.choice(GENRES, size=rng.integers(1, 3), replace=False)]
        fields: dict[str, FieldValue] = {"genres": genres, "year": float(rng.integers(1950, 1999))}
        films.append(ItemProfile(f"i{n}", 0.0, f"Film {n}", fields))
    profiles = tuple(
        UserProfile(f"p{n}", 0.0, {"gender": str(rng.choice(["F", "M"])), "age": float(rng.integers(10, 70))})
        for n in range(users)
    )
    return RealItems(
        items=tuple(films),
        popularity=rng.pareto(1.5, size=items) * 20,
        users=profiles,
        item_fields=(FieldSpec(name="genres", kind="multi"), FieldSpec(name="year", kind="number")),
        user_fields=(FieldSpec(name="gender"), FieldSpec(name="age", kind="number")),
    )


REAL = real_items()


def script(events: str = "[]", **keys: Any) -> Script:
    values = {"name": "test", "requests": 6_000, "pretrain_requests": 2_000, "users": 400, **keys}
    text = "\n".join(f"{key}: {value}" for key, value in values.items())
    return parse_script(f"{text}\nevents: {events}", "test.yaml")


def stream(events: str = "[]", **keys: Any) -> ScriptedStream:
    return ScriptedStream(script(events, **keys), REAL)


def whole(source: ScriptedStream, half: Half = "live", requests: int = 4096) -> Chunk:
    return Chunk.concat(list(source.chunks(half, requests)))


def positions(source: ScriptedStream, chunk: Chunk) -> NDArray[np.float64]:
    return source.clock.position(chunk.time)

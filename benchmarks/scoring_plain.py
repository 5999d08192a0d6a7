"""The plain rival of the scorer: a synchronous endpoint on `get_online_features`, with the same models and store.

It follows the guides of FastAPI and Feast: argument models, a plain `def`, one read call per entity.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from features.live.layout import OVERALL, Kind, LiveRow
from features.live.read import RequestItems, assemble
from features.store.definitions import (
    ITEM_PROFILE,
    ITEM_TEXT,
    UPDATED_AT,
    USER_PROFILE,
    VALUES,
    VECTOR,
    join_key,
    live_view,
)
from features.store.feast_guard import import_feast
from features.store.feature_store import FeatureStore
from model.backbone.interface import round_representation
from model.encoding.domain import Domain
from model.encoding.item_values import ItemValues
from model.encoding.profile import ItemFeatures, UserFeatures
from model.kernel.features import KernelInputs
from model.kernel.kernel import Kernel
from streaming.backbone import open_backbone
from streaming.config import Config, load_config


class PlainDomain(BaseModel):
    """The domain of a request: one value per facet."""

    scene: str = "unknown"
    region: str = "unknown"
    period: str = "unknown"


class PlainRequest(BaseModel):
    """The body of a scoring request: a user, the candidate item ids, the domain and the number of items to return."""

    user_id: str
    candidates: list[str]
    domain: PlainDomain = PlainDomain()
    top_k: int | None = None


class PlainScore(BaseModel):
    """An item and its click probability."""

    item_id: str
    score: float


class PlainResponse(BaseModel):
    """The scored items, best first."""

    scores: list[PlainScore]


class Features:
    """Profiles and live rows through Feast's own read call."""

    def __init__(self, config: Config) -> None:
        store = FeatureStore(config.features, config.run_dir)
        self._store: Any = import_feast().FeatureStore(config=store.online.repo_config)
        self._user = [f"{USER_PROFILE}:{spec.name}" for spec in config.features.user_fields]
        self._item = [f"{ITEM_PROFILE}:{spec.name}" for spec in config.features.item_fields]
        self._item += [f"{ITEM_TEXT}:{VECTOR}"]

    def _read(self, kind: str, keys: list[str], features: list[str]) -> list[dict[str, Any]]:
        live = [f"{live_view(kind)}:{name}" for name in (VALUES, UPDATED_AT)]
        rows = [{join_key(kind): key} for key in keys]
        columns = self._store.get_online_features(features=features + live, entity_rows=rows).to_dict()
        return [{name: values[row] for name, values in columns.items()} for row in range(len(keys))]

    def user(self, user_id: str) -> tuple[UserFeatures, LiveRow | None]:
        """The user's profile fields and live rows."""
        row = self._read("user", [user_id], self._user)[0]
        return UserFeatures(user_id, _fields(row, "user")), _live("user", user_id, row)

    def items(self, ids: list[str], width: int) -> tuple[list[ItemFeatures], list[LiveRow | None]]:
        """The items' profile fields and live rows, in the order of the ids."""
        rows = self._read("item", ids, self._item)
        profiles = [
            ItemFeatures(key, _fields(row, "item"), np.array(row[VECTOR] or np.zeros(width), dtype=np.float32))
            for key, row in zip(ids, rows, strict=True)
        ]
        return profiles, [_live("item", key, row) for key, row in zip(ids, rows, strict=True)]

    def rows(self, kind: Kind, keys: list[str]) -> list[LiveRow | None]:
        """Live rows."""
        read = self._read(kind, keys, []) if keys else []
        return [_live(kind, key, row) for key, row in zip(keys, read, strict=True)]


def _fields(row: dict[str, Any], kind: str) -> dict[str, Any]:
    no_field = {VECTOR, VALUES, UPDATED_AT, join_key(kind)}
    return {name: value for name, value in row.items() if name not in no_field and value is not None}


def _live(kind: Kind, key: str, row: dict[str, Any]) -> LiveRow | None:
    values = row[VALUES]
    return LiveRow(kind, key, float(row[UPDATED_AT]), np.array(values, dtype=np.float32)) if values else None


def make_app(config: Config) -> FastAPI:
    """The FastAPI application with the scoring endpoint."""
    loaded, space, features = open_backbone(config), config.domain_space(), Features(config)
    backbone, encoder = loaded.backbone, loaded.encoder
    layout, item_values = loaded.layout, ItemValues(encoder)
    kernel = Kernel(loaded.start, loaded.start.mean)
    app = FastAPI()

    @app.post("/v1/score")
    def score(request: PlainRequest) -> PlainResponse:
        domain = Domain(request.domain.scene, request.domain.region, request.domain.period)
        user, user_live = features.user(request.user_id)
        items, item_live = features.items(request.candidates, encoder.text_width)
        here, overall = features.rows("domain", [domain.key, OVERALL])
        facets = features.rows("facet", layout.crossing.facet_keys(domain))
        with torch.inference_mode():
            indices = space.encode(domain)
            encoded = [encoder.encode_item(item) for item in items]
            batch = encoder.batch(encoder.encode_user(user), encoded, indices)
            x = round_representation(backbone.represent(batch))
            content = round_representation(backbone.content(batch)).numpy()
            asked = RequestItems(domain, content, item_values.of_items(encoded))
            live = assemble(
                layout, time.time(), asked, user=user_live, domain=here, overall=overall, facets=facets, items=item_live
            )
            frozen = backbone.predict(x, torch.tensor([indices]).expand(len(items), -1))[:, 0]
            inputs = KernelInputs(x, torch.from_numpy(live), torch.from_numpy(asked.values), frozen)
            scores = kernel.logit(inputs).sigmoid().tolist()
        ranked = sorted(zip(request.candidates, scores, strict=True), key=lambda pair: -pair[1])
        return PlainResponse(scores=[PlainScore(item_id=i, score=s) for i, s in ranked[: request.top_k]])

    @app.get("/readyz")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    return app


if __name__ == "__main__":
    torch.set_num_threads(1)
    uvicorn.run(make_app(load_config(Path(sys.argv[1]))), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")

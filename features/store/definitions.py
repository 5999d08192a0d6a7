"""The Feast repository, made from the configuration: entities, views and push sources."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from features.config import FeatureConfig
from features.live.history import HISTORY
from features.live.layout import KINDS
from features.store.feast_guard import import_feast
from model.config import FieldSpec

UPDATED_AT = "updated_at"
"""Event time of the newest event in the row, seconds, a column of every view. The store checks ages by it, because
Feast enforces none online (docs/decisions/0022)."""
VALUES = "values"
ITEMS = "items"
VECTOR = "vector"
STAMP = "event_timestamp"
USER_PROFILE = "user_profile"
ITEM_PROFILE = "item_profile"
ITEM_TEXT = "item_text"
ENTITIES = ("user", "item", "domain", "facet")


def live_view(kind: str) -> str:
    """Name of the view of live rows of a kind."""
    return f"live_{kind}"


def join_key(entity: str) -> str:
    """Name of the column that holds the keys of an entity."""
    return f"{entity}_id"


@dataclass(frozen=True)
class Repository:
    """Feast's objects, by name."""

    entities: dict[str, Any]
    views: dict[str, Any]

    @property
    def objects(self) -> list[Any]:
        """Everything that `apply` registers."""
        return [*self.entities.values(), *self.views.values()]

    def entity_of(self, view: str) -> str:
        """Name of a view's entity."""
        return str(self.views[view].entities[0])


def build(config: FeatureConfig, folder: Path) -> Repository:
    """The repository of a configuration; `folder` would hold the offline files of the push sources, which are
    unused."""
    feast = import_feast()
    entities = {
        name: feast.Entity(name=name, join_keys=[join_key(name)], value_type=feast.ValueType.STRING, description=text)
        for name, text in zip(ENTITIES, ("A user.", "An item.", "A domain.", "A value of a domain facet."), strict=True)
    }
    types = import_feast("feast.types")
    live = [(VALUES, types.Array(types.Float32))]
    columns: dict[str, tuple[str, list[tuple[str, Any]]]] = {
        USER_PROFILE: ("user", [_field(types, spec) for spec in config.user_fields]),
        ITEM_PROFILE: ("item", [_field(types, spec) for spec in config.item_fields]),
        ITEM_TEXT: ("item", [(VECTOR, types.Array(types.Float32))]),
        **{live_view(kind): (kind, live) for kind in KINDS},
        live_view(HISTORY): ("user", [*live, (ITEMS, types.Array(types.String))]),
    }
    views = {name: _view(folder, name, entities[entity], fields) for name, (entity, fields) in columns.items()}
    return Repository(entities, views)


def push_source(view: str) -> str:
    """Name of a view's push source."""
    return f"{view}_push"


def _field(types: Any, spec: FieldSpec) -> tuple[str, Any]:
    kinds = {"single": types.String, "multi": types.Array(types.String), "number": types.Float64}
    return spec.name, kinds[spec.kind]


def _view(folder: Path, name: str, entity: Any, fields: list[tuple[str, Any]]) -> Any:
    feast, types = import_feast(), import_feast("feast.types")
    batch = feast.FileSource(name=f"{name}_file", path=str(folder / f"{name}.parquet"), timestamp_field=STAMP)
    return feast.FeatureView(
        name=name,
        entities=[entity],
        ttl=timedelta(0),
        schema=[
            *(feast.Field(name=field, dtype=dtype) for field, dtype in [*fields, (UPDATED_AT, types.Float64)]),
            feast.Field(name=entity.join_key, dtype=types.String),
        ],
        online=True,
        source=feast.PushSource(name=push_source(name), batch_source=batch),
    )

"""Every environment name on the page of the configuration sets its key."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from streaming.config import Config, load_config
from streaming.config_docs import Key, keys
from tests.streaming.config_parts import field_of, value_at

pytestmark = pytest.mark.usefixtures("no_environment")


OTHER: dict[str, Any] = {
    "KAFKA__BOOTSTRAP": "other:9092",
    "FEATURES__REDIS": "other:6379",
    "KAFKA__SECURITY_PROTOCOL": "SSL",
    "KAFKA__SASL_MECHANISM": "PLAIN",
    "LOG_LEVEL": "ERROR",
    "INGEST__DEAD_LETTER_RATIO": 0.4,
    "BACKBONE__FACTORY": "own.models:make",
    "BACKBONE__ITEM_ASPECTS": ["id", "text"],
    "BACKBONE__QUERY_ASPECTS": ["words"],
    "DRIFT__INPUTS": ["score"],
    "SCORER__CORS_ORIGINS": ["https://example.org"],
    "GROUPS": [{"name": "all"}],
    "DOMAINS__SCENE": ["näh", "fern"],
    "FEATURES__USER_FIELDS": [{"name": "plan"}],
    "FEATURES__ITEM_FIELDS": [{"name": "size", "kind": "number"}],
    "LIVE__HALF_LIVES_S": [3.0, 4.0],
    "LEARNER__HALF_LIVES": [1_000.0, 9_000.0],
    "ACCESS__KEYS": [{"name": "shop", "hash": "sha256:" + "0" * 64, "may": ["score", "feedback"]}],
    "ACCESS__REQUEST_ID_SECRETS": ["first" * 8, "second" * 8],
}
"""Values that no rule below can make."""


BESIDE = {
    "BACKBONE__RELEVANCE_WEIGHT": ("BACKBONE__QUERY_ASPECTS", '["text"]'),
    "BACKBONE__USER_OBJECTIVE": ("BACKBONE__USER_ENCODER", "pool"),
}
"""A key, and another without which it is refused."""


def another(field: FieldInfo, default: Any) -> Any:
    """A value of the field's type that is not its default."""
    annotation = field.annotation
    if get_origin(annotation) is Literal:
        return next(choice for choice in get_args(annotation) if choice != default)
    if isinstance(default, bool):
        return not default
    if isinstance(default, float) and any(_highest(limit) <= 1 for limit in field.metadata):
        return default / 2 + 0.01
    if isinstance(default, int | float):
        if default >= 60_000 and "port" in field.description.lower():  # type: ignore[union-attr]
            return default - 1
        return default + max((getattr(limit, "multiple_of", 1) for limit in field.metadata), default=1)
    return ["one", "two"] if get_origin(annotation) is tuple else "another"


def _highest(limit: object) -> float:
    return float(getattr(limit, "lt", getattr(limit, "le", 2)))


def default_of(path: str) -> Any:
    value: Any = Config()
    for part in path.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("key", tuple(keys()), ids=lambda key: key.environment)
def test_every_environment_name_on_the_page_sets_its_key(key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    default = value_at(Config(), key.path)
    name = key.environment.removeprefix("DRIFTLINE_")
    value = OTHER.get(name, another(field_of(key.environment), default))
    assert value != default
    if name in BESIDE:
        beside, needed = BESIDE[name]
        monkeypatch.setenv(f"DRIFTLINE_{beside}", needed)
    monkeypatch.setenv(key.environment, value if isinstance(value, str) else json.dumps(value))
    assert value_at(load_config(), key.path) == value

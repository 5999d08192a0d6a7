"""Conversion between Driftline's values and Feast's protocol buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from features.live.history import HISTORY
from features.live.layout import Floats, Kind, LiveRow
from features.store.definitions import ITEMS, UPDATED_AT, VALUES
from features.store.feast_guard import import_feast
from model.config import FieldSpec
from model.encoding.spelling import FieldValue, read_number, spell, spell_list

_value: Any = import_feast("feast.protos.feast.types.Value_pb2")
_key: Any = import_feast("feast.protos.feast.types.EntityKey_pb2")

_KEYS_KEPT = 20_000
Values = dict[str, Any]
"""Feast's values of one row, by field."""


@lru_cache(_KEYS_KEPT)
def entity_key(join_key: str, key: str) -> Any:
    """Feast's key of one entity. It is cached, because a request needs a hundred and most were used before; callers
    must not change it.

    Lone surrogates, which are legal in JSON, are replaced, because protocol buffers refuse them.
    """
    return _key.EntityKey(join_keys=[join_key], entity_values=[_value.Value(string_val=_clean(key))])


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def number(value: float) -> Any:
    """A float64."""
    return _value.Value(double_val=value)


def vector(values: Floats) -> Any:
    """A list of float32."""
    return _value.Value(float_list_val=_value.FloatList(val=values.tolist()))


def read_vector(values: Mapping[str, Any], field: str) -> Floats:
    """The float32 vector of a field, read-only; length 0 if it is missing."""
    value = values.get(field)
    if value is None or not (count := len(value.float_list_val.val)):
        return np.zeros(0, dtype=np.float32)
    # The packed numbers end the serialised message; reading them there halves the time (docs/decisions/0143).
    data = value.SerializeToString()
    return np.frombuffer(data, "<f4", count, len(data) - 4 * count)


def write_fields(specs: Sequence[FieldSpec], fields: Mapping[str, FieldValue]) -> tuple[Values, int]:
    """A profile's fields as Feast's values, and the number of fields left out because their value has a wrong kind.

    Every declared field is written, a missing one as null, because a new profile replaces the old one as a whole.
    """
    written: Values = {}
    wrong = 0
    for spec in specs:
        value = fields.get(spec.name)
        encoded = _encode(spec, value) if value is not None else None
        wrong += value is not None and encoded is None
        written[spec.name] = encoded if encoded is not None else _value.Value()
    return written, wrong


def read_fields(specs: Sequence[FieldSpec], values: Mapping[str, Any]) -> dict[str, FieldValue]:
    """The fields of a stored profile that have a value."""
    fields: dict[str, FieldValue] = {}
    for spec in specs:
        value = values.get(spec.name)
        if value is None:
            continue
        case = value.WhichOneof("val")
        if case == "string_val":
            fields[spec.name] = value.string_val
        elif case == "double_val":
            fields[spec.name] = value.double_val
        elif case == "string_list_val":
            fields[spec.name] = list(value.string_list_val.val)
    return fields


def write_live(row: LiveRow) -> Values:
    """A live row as Feast's values."""
    written = {VALUES: vector(row.values), UPDATED_AT: number(row.updated_at)}
    if row.kind == HISTORY:
        written[ITEMS] = _value.Value(string_list_val=_value.StringList(val=map(_clean, row.items)))
    return written


def read_live(kind: Kind, key: str, values: Mapping[str, Any]) -> LiveRow:
    """A live row from Feast's values."""
    listed = values.get(ITEMS)
    items = tuple(listed.string_list_val.val) if listed is not None else ()
    return LiveRow(kind, key, updated_at(values), read_vector(values, VALUES), items)


def updated_at(values: Mapping[str, Any]) -> float:
    """Event time of the newest event in a row, seconds; 0 if it is missing."""
    value = values.get(UPDATED_AT)
    return float(value.double_val) if value is not None else 0.0


def has_time(values: Mapping[str, Any] | None) -> bool:
    """Whether the row was written by Driftline, whose rows all have a time."""
    value = values.get(UPDATED_AT) if values else None
    return value is not None and value.WhichOneof("val") == "double_val"


def _encode(spec: FieldSpec, value: FieldValue) -> Any | None:
    """Feast's value, an empty one for a missing value; None for a value of the wrong kind."""
    if spec.kind == "number":
        read = read_number(value)
        if read is not None:
            return number(read)
        return _value.Value() if spell(value) is None and not isinstance(value, float) else None
    if spec.kind == "multi":
        return _value.Value(string_list_val=_value.StringList(val=spell_list(value)))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return None
    text = spell(value)
    return _value.Value() if text is None else _value.Value(string_val=text)

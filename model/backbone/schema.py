"""The inputs that a backbone reads: facet values, fields and text model. The card keeps them, so that every process can
compare them with its configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import ITEM_ASPECTS, FieldSpec
from model.encoding.domain import FACETS, DomainSpace

FORMAT = 5
CARD = "card.json"
DAMAGED = "the folder is damaged or was made by another program: copy it again, or pretrain again"
_CURE = "take the change back, or pretrain again with this configuration (`driftline pretrain`)"


class BackboneRefused(Exception):
    """A backbone cannot be trained or used; the message names the fault and the cure."""


@dataclass(frozen=True)
class InputSchema:
    """The inputs that a configuration declares. A facet's index is its position, so the order counts."""

    domains: Mapping[str, Sequence[str]]
    """Declared values of each facet, without `unknown`."""
    user_fields: tuple[FieldSpec, ...]
    item_fields: tuple[FieldSpec, ...]
    text_model: str
    """Name or path of the language model. Only the last part is compared, because paths differ between machines."""
    item_aspects: tuple[str, ...] = ITEM_ASPECTS
    """The aspects by which the backbone knows an item."""
    query_aspects: tuple[str, ...] = ()
    """The aspects by which it knows a query; empty if it reads none."""

    @property
    def space(self) -> DomainSpace:
        """The declared domains."""
        return DomainSpace(self.domains)

    def to_json(self) -> dict[str, Any]:
        """All that `from_json` needs."""
        return {
            "domains": {facet: list(self.space.values[facet][1:]) for facet in FACETS},
            "user_fields": [field.model_dump() for field in self.user_fields],
            "item_fields": [field.model_dump() for field in self.item_fields],
            "text_model": self.text_model,
            "item_aspects": list(self.item_aspects),
            "query_aspects": list(self.query_aspects),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> InputSchema:
        """The inverse of `to_json`. Malformed data raise whatever error the first wrong value causes."""
        return InputSchema(
            domains=DomainSpace(data["domains"]).values,
            user_fields=tuple(FieldSpec(**field) for field in data["user_fields"]),
            item_fields=tuple(FieldSpec(**field) for field in data["item_fields"]),
            text_model=str(data["text_model"]),
            item_aspects=tuple(data["item_aspects"]),
            query_aspects=tuple(data["query_aspects"]),
        )

    def differences(self, pretrained: InputSchema) -> list[str]:
        """One clause per key of this schema that differs from the one at pretraining."""
        clauses = []
        for facet in FACETS:
            clauses += _facet_differs(facet, self.space.values[facet][1:], pretrained.space.values[facet][1:])
        clauses += _fields_differ("user_fields", self.user_fields, pretrained.user_fields)
        clauses += _fields_differ("item_fields", self.item_fields, pretrained.item_fields)
        if Path(self.text_model).name != Path(pretrained.text_model).name:
            clauses.append(f"features.text_model is {self.text_model!r}, pretraining had {pretrained.text_model!r}")
        for key in ("item_aspects", "query_aspects"):
            now, then = (", ".join(getattr(schema, key)) or "empty" for schema in (self, pretrained))
            if now != then:
                clauses.append(f"backbone.{key} is {now}, pretraining had {then}")
        return clauses


def _facet_differs(facet: str, now: Sequence[str], then: Sequence[str]) -> list[str]:
    added, removed = [v for v in now if v not in then], [v for v in then if v not in now]
    if added or removed:
        return [
            *([f"domains.{facet} has {_names(added)}, which pretraining did not know"] if added else []),
            *([f"domains.{facet} lacks {_names(removed)}, which pretraining had"] if removed else []),
        ]
    if tuple(now) != tuple(then):
        return [f"domains.{facet} has its values in another order than pretraining ({_names(then)})"]
    return []


def _fields_differ(key: str, now: Sequence[FieldSpec], then: Sequence[FieldSpec]) -> list[str]:
    """One clause per differing field. The order of fields does not matter, because they are looked up by name."""
    declared, known = {f.name: f for f in now}, {f.name: f for f in then}
    added, removed = [n for n in declared if n not in known], [n for n in known if n not in declared]
    clauses = []
    if added:
        clauses.append(f"features.{key} has {_names(added)}, which pretraining did not know")
    if removed:
        clauses.append(f"features.{key} lacks {_names(removed)}, which pretraining had")
    for name in declared.keys() & known.keys():
        for attribute in FieldSpec.model_fields:
            value, before = getattr(declared[name], attribute), getattr(known[name], attribute)
            if value != before:
                clauses.append(f"features.{key}: {attribute} of {name!r} is {value!r}, pretraining had {before!r}")
    return clauses


def _names(values: Sequence[str]) -> str:
    return ", ".join(map(repr, values[:5])) + (", ..." if len(values) > 5 else "")


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a saved backbone. Raises BackboneRefused if it is missing, torn or of another format."""
    card = read_json(folder / CARD)
    if card.get("format") != FORMAT:
        raise BackboneRefused(
            f"{folder}: format {card.get('format')!r}, this version reads {FORMAT}: pretrain again with this version"
        )
    return card


def check_card(folder: Path, schema: InputSchema) -> dict[str, Any]:
    """The card of the backbone in `folder`, compared with what the configuration declares; no tensor is read.

    Raises BackboneRefused: it names every key that differs from pretraining.
    """
    card = read_card(folder)
    try:
        pretrained = InputSchema.from_json(card["inputs"])
    except Exception as error:
        raise BackboneRefused(f"{folder / CARD}: {type(error).__name__}: {error}: {DAMAGED}") from error
    differences = schema.differences(pretrained)
    if differences:
        raise BackboneRefused(f"the backbone in {folder} was made for other inputs: {'; '.join(differences)}: {_CURE}")
    return card


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises BackboneRefused, naming the file."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise BackboneRefused(
            f"no file {path}: pretrain a backbone first (`driftline pretrain`), or point to the folder of one"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneRefused(f"{path}: {error}: {DAMAGED}") from error
    if not isinstance(data, dict):
        raise BackboneRefused(f"{path}: not a JSON object: {DAMAGED}")
    return data

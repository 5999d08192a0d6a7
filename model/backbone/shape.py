"""Sizes of a backbone's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from model.encoding.features import FeatureEncoder


@dataclass(frozen=True)
class BackboneShape:
    """Table sizes, which come from the data and not from the configuration."""

    users: int
    items: int
    user_rows: int
    item_rows: int
    user_slots: tuple[int, ...]
    """Slots of each user field."""
    item_slots: tuple[int, ...]
    domain_sizes: tuple[int, int, int]

    @staticmethod
    def of(encoder: FeatureEncoder, domain_sizes: tuple[int, int, int]) -> BackboneShape:
        """The table sizes of `encoder`."""
        return BackboneShape(
            users=len(encoder.users),
            items=len(encoder.items),
            user_rows=encoder.user_rows,
            item_rows=encoder.item_rows,
            user_slots=tuple(field.slots for field in encoder.user_fields),
            item_slots=tuple(field.slots for field in encoder.item_fields),
            domain_sizes=domain_sizes,
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON, for a card."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> BackboneShape:
        """From a card; lists become tuples. Raises TypeError for missing or unknown names."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return BackboneShape(**values)

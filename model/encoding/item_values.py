"""Values of the item fields that counters and matching cross with user and domain (ours).

A field is crossed if pretraining has seen at least two values of it and at most `MAX_VALUES`. A field of one value
carries no information, and one of many values (an author) is nearly the item itself, which has a counter of its own. So
the data decide, and nobody has to list fields (docs/decisions/0081).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.encoding.features import EncodedItem, FeatureEncoder
from model.encoding.vocabulary import FieldEncoder

MAX_VALUES = 64
"""A field with more values is not crossed, because live rows would grow and each value would have few examples."""
MAX_PER_FIELD = 5
"""Number of values of a multi-valued field that count, the first ones."""
NONE = -1
"""Fills the slots that an item does not use."""

Slots = NDArray[np.int16]


class ItemValues:
    """Numbers the values of the crossed fields from 0 to `width - 1`, field after field, unknown values included."""

    def __init__(self, encoder: FeatureEncoder) -> None:
        fields: list[str] = []
        columns: list[int] = []
        shifts: list[int] = []
        field_of_slot: list[int] = []
        self.width = 0
        """Number of values V."""
        row = slot = 0
        for field in encoder.item_fields:
            if _is_crossed(field):
                used = min(field.slots, MAX_PER_FIELD)
                columns += range(slot, slot + used)
                shifts += [self.width - row] * used
                field_of_slot += [len(fields)] * used
                fields.append(field.spec.name)
                self.width += field.rows
            row, slot = row + field.rows, slot + field.slots
        self.fields: tuple[str, ...] = tuple(fields)
        """Names of the crossed fields."""
        self.field_of_slot: NDArray[np.intp] = np.array(field_of_slot, dtype=np.intp)
        """Index in `fields` of each slot, `(S,)`."""
        self._columns = np.array(columns, dtype=np.intp)
        self._shifts = np.array(shifts, dtype=np.int64)

    @property
    def slots(self) -> int:
        """Number S of slots that one item fills."""
        return len(self._columns)

    def of_rows(self, sparse: NDArray[np.int64], weight: NDArray[np.float32]) -> Slots:
        """Slots `(n, S)` of encoded items: `sparse` and `weight` are `(n, slots of the item fields)`.

        A value that occurs twice in an item, as two unknown values of one field do, counts once.
        """
        rows = sparse[:, self._columns] + self._shifts
        earlier = np.tri(self.slots, k=-1, dtype=np.bool_)
        repeated = ((rows[:, :, None] == rows[:, None, :]) & earlier).any(axis=2)
        return np.where((weight[:, self._columns] > 0) & ~repeated, rows, NONE).astype(np.int16)

    def of_items(self, items: Sequence[EncodedItem]) -> Slots:
        """Slots `(n, S)` of encoded items."""
        if not items:
            return np.zeros((0, self.slots), dtype=np.int16)
        return self.of_rows(np.stack([item.sparse for item in items]), np.stack([item.weight for item in items]))


def _is_crossed(field: FieldEncoder) -> bool:
    return 2 <= field.rows - 1 <= MAX_VALUES

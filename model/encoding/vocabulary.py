"""Maps of raw field values to table rows, learned from the pretraining window and frozen with the backbone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.config import FieldSpec
from model.encoding.spelling import FieldValue, read_number, spell, spell_list

OOV = 0
"""Row of every value that pretraining has not seen."""


class Vocabulary:
    """Values to rows; row 0 is out-of-vocabulary."""

    def __init__(self, values: Iterable[str]) -> None:
        self.values: tuple[str, ...] = tuple(values)
        self._row = {value: row for row, value in enumerate(self.values, start=1)}
        if len(self._row) != len(self.values):
            raise ValueError("a vocabulary holds a value twice: give each value once")

    def __len__(self) -> int:
        return len(self.values) + 1

    def row(self, value: str) -> int:
        """Row of `value`; 0 if it is unknown."""
        return self._row.get(value, OOV)

    def grown(self, values: Iterable[str]) -> Vocabulary:
        """A copy with a new row after the others for each of `values` that has none."""
        return Vocabulary((*self.values, *sorted(set(values) - self._row.keys())))


@dataclass(frozen=True)
class FieldEncoder:
    """One sparse field: its rows and the slots it takes in the encoded arrays."""

    spec: FieldSpec
    vocabulary: Vocabulary
    edges: tuple[float, ...] = ()
    """Inner quantile edges of a number's buckets, ascending."""

    @property
    def rows(self) -> int:
        """Rows of the field, the out-of-vocabulary row included."""
        return len(self.edges) + 2 if self.spec.kind == "number" else len(self.vocabulary)

    @property
    def slots(self) -> int:
        """Number of table rows that one entity looks up in this field."""
        return self.spec.max_values if self.spec.kind == "multi" else 1

    @staticmethod
    def fit(spec: FieldSpec, values: Sequence[FieldValue]) -> FieldEncoder:
        """Learns rows or bucket edges from the values seen in pretraining."""
        if spec.kind == "number":
            numbers = np.array([n for n in map(read_number, values) if n is not None], dtype=np.float64)
            if numbers.size == 0:
                return FieldEncoder(spec, Vocabulary(()))
            cuts = np.quantile(numbers, np.linspace(0, 1, spec.buckets + 1)[1:-1])
            return FieldEncoder(spec, Vocabulary(()), tuple(float(edge) for edge in np.unique(cuts)))
        seen = {part for value in values for part in spell_list(value)}
        return FieldEncoder(spec, Vocabulary(sorted(seen)))

    def grown(self, values: Iterable[FieldValue]) -> FieldEncoder:
        """A copy with rows for new values; the buckets of a number do not change."""
        if self.spec.kind == "number":
            return self
        return replace(self, vocabulary=self.vocabulary.grown(part for value in values for part in spell_list(value)))

    def encode(self, value: FieldValue | None) -> tuple[list[int], int, int]:
        """Rows of one value, number of values beyond `max_values`, and number of unknown or unreadable values."""
        if self.spec.kind == "number":
            number = read_number(value)
            if number is None:
                return [OOV], 0, int(spell(value) is not None)
            return [1 + int(np.searchsorted(self.edges, number, "right"))], 0, 0
        parts = spell_list(value)
        kept = parts[: self.slots]
        rows = [self.vocabulary.row(part) for part in kept] or [OOV]
        return rows, len(parts) - len(kept), sum(row == OOV for row in rows[: len(kept)])

    def to_json(self) -> dict[str, Any]:
        """All that `from_json` needs."""
        return {"spec": self.spec.model_dump(), "values": list(self.vocabulary.values), "edges": list(self.edges)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> FieldEncoder:
        """The inverse of `to_json`."""
        return FieldEncoder(FieldSpec(**data["spec"]), Vocabulary(data["values"]), tuple(data["edges"]))


@dataclass(frozen=True, slots=True)
class EncodedFields:
    """All sparse fields of one user or item, over their `S` slots."""

    rows: NDArray[np.int64]
    """Table rows, `(S,)`."""
    weights: NDArray[np.float32]
    """Weights of those rows, `(S,)`; those of one field sum to 1."""
    unknown: int = 0
    """Number of values that are not in the vocabulary, or are no number although the field is one."""
    cut: int = 0
    """Values left out because a field has more than `max_values`."""


def encode_fields(encoders: Sequence[FieldEncoder], fields: Mapping[str, FieldValue]) -> EncodedFields:
    """The fields of a profile as table rows.

    Fields share one table: they follow each other, and each begins with its own out-of-vocabulary row.
    """
    total = sum(encoder.slots for encoder in encoders)
    rows, weights = np.zeros(total, dtype=np.int64), np.zeros(total, dtype=np.float32)
    offset = slot = all_cut = all_unknown = 0
    for encoder in encoders:
        own, cut, unknown = encoder.encode(fields.get(encoder.spec.name))
        all_cut, all_unknown = all_cut + cut, all_unknown + unknown
        rows[slot : slot + len(own)] = np.array(own) + offset
        weights[slot : slot + len(own)] = 1.0 / len(own)
        rows[slot + len(own) : slot + encoder.slots] = offset
        offset += encoder.rows
        slot += encoder.slots
    return EncodedFields(rows, weights, all_unknown, all_cut)

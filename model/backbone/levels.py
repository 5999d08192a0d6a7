"""Levels of the foundation model: the parts that fine-tuning can freeze."""

from __future__ import annotations

from typing import Literal, get_args

Level = Literal["L0", "L1", "L2", "L3"]
"""L0: text maps and tables; L1: encoding and fusion; L2: domain layer, experts and gates, or two towers; L3: towers, or
the dot product. The paper names the levels; what belongs to each is inferred."""
LEVELS: tuple[Level, ...] = get_args(Level)

_LEVEL_OF: dict[str, Level] = {
    "user_table": "L0", "item_table": "L0", "item_text": "L0", "query.text": "L0", "query.words": "L0",
    "user_sparse.table": "L0", "item_sparse.table": "L0",
    "user_id": "L1", "item_id": "L1", "user_sparse.map": "L1", "item_sparse.map": "L1", "user_encoder": "L1",
    "user_fusion": "L1", "item_fusion": "L1", "query.word_map": "L1", "query.fusion": "L1",
    "domain_embedding": "L2", "domain_layer": "L2", "experts": "L2", "first_order": "L2",
    "user_tower": "L2", "item_tower": "L2",
    "towers": "L3",
}  # fmt: skip


def level_of(name: str) -> Level:
    """The level of a parameter or layer, by its name in the model. Raises StopIteration for an unknown name."""
    return next(level for prefix, level in _LEVEL_OF.items() if name == prefix or name.startswith(f"{prefix}."))

"""Adapters are tried on the same small backbone as the model."""

from tests.model.conftest import backbone, make_backbone, world

__all__ = ["backbone", "make_backbone", "world"]

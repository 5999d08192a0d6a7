"""What the reads of a feature store found, counted so that a store that has lost something is noticed."""

from __future__ import annotations

from typing import Protocol


class ReadCounts(Protocol):
    """Takes counts of a store; numbers are at least 1."""

    def found(self, view: str, number: int) -> None:
        """Entities that were found in a view, and are not too old."""

    def filled(self, view: str, field: str, number: int) -> None:
        """Found profiles in which a declared field has a value."""

    def defaulted(self, view: str, reason: str, number: int) -> None:
        """Entities or values replaced by defaults; the reason is `missing`, `stale`, `bad_value`, `unknown_value`,
        `cut_value` or `undeclared` (a field that is not stored)."""


class Uncounted:
    """Counts nothing."""

    def found(self, view: str, number: int) -> None:
        """Not counted."""

    def filled(self, view: str, field: str, number: int) -> None:
        """Not counted."""

    def defaulted(self, view: str, reason: str, number: int) -> None:
        """Not counted."""

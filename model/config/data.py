"""What a stream's data declare: the fields of users and items, and the values of the domain facets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from model.config.section import Section

OWN_COLUMNS = ("updated_at", "user_id", "item_id")
"""Columns that every profile has in the feature store; a field of the same name would be overwritten by them."""


def field_name(name: str) -> str:
    """`name`, if a field of a profile may have it. Raises ValueError."""
    if name in OWN_COLUMNS:
        raise ValueError(f"{name!r} is a column of the profiles themselves: give the field another name")
    if not name.strip() or not name.isprintable():
        raise ValueError(f"{name!r} names no field: give it printable text")
    return name


class FieldSpec(Section):
    """One sparse field of a user or an item."""

    name: Annotated[str, AfterValidator(field_name)] = Field(
        description="Name of the field in events and in the feature store."
    )
    kind: Literal["single", "multi", "number"] = Field(
        default="single", description="One value, a list of values, or a number that is cut into buckets."
    )
    buckets: int = Field(default=8, ge=2, description="Number of quantile buckets of a number.")
    max_values: int = Field(
        default=16, ge=1, description="Values of a multi-valued field beyond this are left out and counted."
    )


class DomainConfig(Section):
    """The declared values of each domain facet; any other value is treated as `unknown`."""

    scene: tuple[str, ...] = Field(default=("home",), description="Scenes of the app.")
    region: tuple[str, ...] = Field(default=(), description="Regions of the users.")
    period: tuple[str, ...] = Field(
        default=("night", "morning", "afternoon", "evening"), description="Periods of the day."
    )

    @field_validator("scene", "region", "period")
    @classmethod
    def _no_blank(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if any(not value.strip() for value in values):
            raise ValueError("a facet value is empty")
        if len(set(values)) != len(values):
            raise ValueError(f"{max(values, key=values.count)!r} is listed twice: drop one")
        return values

"""What the drift monitor demands before it speaks: validated once, a sentence per key."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from model.config import Section

Watched = Literal["score", "norm", "projection_1", "projection_2", "projection_3", "projection_4"]
"""The inputs that are watched: the frozen score, the length of `x`, and `x` along fixed random directions."""
WATCHED: tuple[Watched, ...] = get_args(Watched)


class DriftConfig(Section):
    """When drift is announced."""

    false_alarm_examples: float = Field(
        default=1_000_000.0,
        gt=1,
        description="Examples between two false announcements of drift, at least, on average over all domains.",
    )
    least_examples: int = Field(
        default=500, ge=1, description="A domain with fewer recent examples is said to have too little data."
    )
    inputs: tuple[Watched, ...] = Field(
        default=WATCHED,
        min_length=1,
        description="Inputs that may be called far from the reference, of the frozen score, the length of the "
        "representation and its four fixed projections; the others are neither measured nor shown.",
    )

    @field_validator("inputs")
    @classmethod
    def _once(cls, inputs: tuple[Watched, ...]) -> tuple[Watched, ...]:
        if len(set(inputs)) != len(inputs):
            raise ValueError(f"{max(inputs, key=inputs.count)!r} stands there twice")
        return inputs

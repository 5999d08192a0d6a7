"""Settings of the drift monitor, each validated once and described by one sentence."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, field_validator

from model.config import Section

MonitoredInput = Literal["score", "norm", "projection_1", "projection_2", "projection_3", "projection_4"]
"""The inputs that are watched: the frozen score, the norm of `x`, and `x` projected on fixed random directions."""
MONITORED_INPUTS: tuple[MonitoredInput, ...] = get_args(MonitoredInput)


class DriftConfig(Section):
    """When drift is announced."""

    false_alarm_examples: float = Field(
        default=100_000_000.0,
        gt=1,
        description="Least number of examples between two false announcements of drift, on average over all domains.",
    )
    least_examples: int = Field(
        default=500, ge=1, description="Recent examples below which a domain's verdict is that there are too few."
    )
    inputs: tuple[MonitoredInput, ...] = Field(
        default=MONITORED_INPUTS,
        min_length=1,
        description="Watched inputs that may trigger a verdict: the frozen score, the norm of the representation and "
        "its four fixed projections; inputs left out are neither measured nor shown.",
    )

    @field_validator("inputs")
    @classmethod
    def _once(cls, inputs: tuple[MonitoredInput, ...]) -> tuple[MonitoredInput, ...]:
        if len(set(inputs)) != len(inputs):
            raise ValueError(f"{max(inputs, key=inputs.count)!r} is listed twice: drop one")
        return inputs

"""What the drift monitor demands before it speaks: validated once, a sentence per key."""

from __future__ import annotations

from pydantic import Field

from model.config import Section


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

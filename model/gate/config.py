"""What the gate demands of labels and kernels: validated once, a sentence per key."""

from __future__ import annotations

from pydantic import Field

from model.config import Section


class GateConfig(Section):
    """What must hold before a kernel learns from labels and before it is published."""

    false_alarm_requests: float = Field(
        default=1_000_000.0,
        gt=1,
        description="Requests between two false alarms of the harm test, at least, on average over all comparisons.",
    )
    label_odds: float = Field(
        default=4.0,
        gt=1,
        description="A domain's labels are set aside where they fit odds of a click that are so many times larger or "
        "smaller than expected better than the expected ones.",
    )
    hold_max_examples: int = Field(
        default=10_000,
        ge=1,
        description="A changed label rate that lasts for so many examples is taken for the new truth, if the frozen "
        "model still orders them.",
    )
    good_every_examples: int = Field(
        default=5_000,
        ge=1,
        description="The learner is kept every so many examples; what is undone goes back to the last one kept that "
        "has been followed by as many without an alarm.",
    )
    user_share: float = Field(
        default=0.04, gt=0, le=1, description="Most that one user's examples may weigh in what is learned lately."
    )
    item_share: float = Field(
        default=0.25, gt=0, le=1, description="Most that one item's examples may weigh in what is learned lately."
    )
    late_share: float = Field(
        default=0.5, gt=0, le=1, description="Share of late and orphan feedback at which nothing is published."
    )

"""Settings of the gate, each validated once and described by one sentence."""

from __future__ import annotations

from pydantic import Field

from model.config import Section


class GateConfig(Section):
    """Conditions for learning from labels and for publishing a kernel."""

    false_alarm_requests: float = Field(
        default=1_000_000.0,
        gt=1,
        description="Least number of requests between two false alarms of the harm test, on average over all arms.",
    )
    label_odds: float = Field(
        default=4.0,
        gt=1,
        description="A domain's labels are set aside if odds of a click that are so many times larger or smaller than "
        "expected explain them better than the expected odds.",
    )
    hold_max_examples: int = Field(
        default=10_000,
        ge=1,
        description="A changed label rate that lasts for so many examples is accepted as normal, if the frozen model "
        "still orders the labels.",
    )
    good_every_examples: int = Field(
        default=5_000,
        ge=1,
        description="Every so many examples the learner's state is kept. An undone learner returns to the last state "
        "that as many further examples have followed without an alarm.",
    )
    user_share: float = Field(
        default=0.04, gt=0, le=1, description="Largest share of recent learning that one user's examples may have."
    )
    item_share: float = Field(
        default=0.25, gt=0, le=1, description="Largest share of recent learning that one item's examples may have."
    )
    late_share: float = Field(
        default=0.5, gt=0, le=1, description="Share of late and orphan feedback from which nothing is published."
    )

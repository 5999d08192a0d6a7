"""Settings of the kernel, which are fixed at pretraining, and of the learner, which may change at any start."""

from __future__ import annotations

from pydantic import Field, field_validator

from model.config.section import Section


class KernelConfig(Section):
    """The compression of the information-aware adaptive kernel, which is fixed with the backbone at pretraining."""

    rank: int = Field(default=8, ge=1, le=64, description="Most directions of the representation that are kept.")
    beta: float = Field(
        default=2.0,
        gt=1,
        description="Price of a nat about who asks, where and when, in nats of the representation; a direction is kept "
        "if more than 1 / beta of its variance lies between users and domains.",
    )


class LearnerConfig(Section):
    """How the kernel learns from the stream."""

    batch_examples: int = Field(default=512, ge=1, description="A micro-batch is cut when it holds this many examples.")
    batch_seconds: float = Field(default=0.25, gt=0, description="... or when its event time spans this many seconds.")
    half_lives: tuple[float, float] = Field(
        default=(2_000.0, 20_000.0),
        description="Half-lives of the two posteriors' memories, in examples: the short one and the long one.",
    )
    trust_half_life: float = Field(
        default=80.0,
        gt=0,
        description="Examples within which the arms' weights move half of the way to their resting weights.",
    )
    trust_rate: float = Field(
        default=0.3, gt=0, description="How strongly a difference in log loss moves the trust in an arm."
    )
    frozen_share: float = Field(
        default=0.1, gt=0, lt=1, description="Resting weight of the frozen model in the mixture of arms that is served."
    )
    evidence_half_life: float = Field(
        default=20_000.0, gt=0, description="Examples after which the evidence for the matching counts half."
    )
    evidence_rate: float = Field(
        default=0.3, gt=0, description="How strongly a nat of evidence moves the matching's resting share."
    )
    publish_seconds: float = Field(
        default=0.5, gt=0, description="Least event time between two published kernels, seconds."
    )

    @field_validator("half_lives")
    @classmethod
    def _short_before_long(cls, values: tuple[float, float]) -> tuple[float, float]:
        if not 0 < values[0] <= values[1]:
            raise ValueError("half-lives must be above zero, the short one first")
        return values

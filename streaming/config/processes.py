"""What the join, ingest, the processor and the scorer are told."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from model.config import Section
from model.control_users import ControlUsers

_METRICS_HOST = (
    "Address of /metrics and /healthz. They need no key, so another address than loopback is for your monitoring alone."
)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@*\sA-Z]+")


class JoinConfig(Section):
    """The join of impressions with their late feedback."""

    window_s: float = Field(
        default=30.0, gt=0, description="How long after an impression feedback still decides its labels."
    )
    lateness_s: float = Field(
        default=1.0,
        ge=0,
        description="How far the watermark stays behind the newest impression: covers scorers out of step.",
    )
    progress_timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="If ingest has not told that far how much it has read, requests are dropped unlearned, not taught "
        "as negatives.",
    )
    horizon_s: float = Field(
        default=3_600.0,
        ge=0,
        description="How long after an impression a click still corrects the label that was taught; 0 corrects none.",
    )
    conversion_window_s: float = Field(
        default=3_600.0,
        gt=0,
        description="How long after an impression a conversion still belongs to it. Conversions are learned when this "
        "and `join.horizon_s` are over.",
    )
    max_bytes: int = Field(
        default=512 * 2**20,
        ge=2**20,
        description="Memory for open requests; beyond it the oldest is dropped unlearned and counted.",
    )
    feedback_bytes: int = Field(
        default=256 * 2**10,
        ge=2**10,
        description="Memory for feedback whose impression has not come; beyond it the oldest is dropped and counted.",
    )
    horizon_bytes: int = Field(
        default=64 * 2**20,
        ge=2**10,
        description="Memory for what late clicks correct; beyond it the oldest requests can no longer be corrected.",
    )

    @property
    def click_s(self) -> float:
        """How long after its impression a click is believed, seconds."""
        return max(self.window_s, self.horizon_s)

    @property
    def patience_s(self) -> float:
        """How long feedback waits for its impression, and an impression may be late: all it got is then still there."""
        return 2 * self.window_s


class IngestConfig(Section):
    """The consumer of outside events."""

    group_id: str = Field(
        default="driftline-ingest", description="Kafka consumer group; a dot and `topics.traffic` follow it."
    )
    max_poll: int = Field(default=500, ge=1, description="Records per poll.")
    future_s: float = Field(
        default=86_400.0,
        ge=0,
        description="Events ahead of the broker's clock count as of now; further ahead than this they are refused.",
    )
    idle_tick_s: float = Field(
        default=0.5, gt=0, description="Without traffic for this long, event time is moved on by ticks."
    )
    max_items: int = Field(default=1_000, ge=1, description="Items of one impression; more are refused.")
    drift_hours: float = Field(
        default=24,
        gt=0,
        description="Hours after which announced drift counts as over although nobody announced its end.",
    )
    metrics_host: str = Field(default="127.0.0.1", description=_METRICS_HOST)
    metrics_port: int = Field(
        default=9101, ge=0, le=65535, description="Port of /metrics and /healthz; 0 takes a free one."
    )


class ProcessorConfig(Section):
    """The stream processor."""

    app_id: str = Field(
        default="driftline-processor",
        description="Faust application id and consumer group; a dot and `topics.kernels` follow it.",
    )
    queue_records: int = Field(
        default=2_000, ge=1, description="Records waiting for the learner thread before reading pauses."
    )
    commit_interval_s: float = Field(
        default=0.5, gt=0, description="Wall-clock seconds between two transactions of a group: kernels go out in them."
    )
    snapshot_interval_s: float = Field(
        default=15.0,
        gt=0,
        description="Wall-clock seconds after which a transaction holds all that a group knows, not its kernel alone.",
    )
    relearn_s: float = Field(
        default=3.0,
        gt=0,
        description="... or after so many seconds of learning, which a new owner would have to do again.",
    )
    status_seconds: float = Field(
        default=5.0,
        ge=0.1,
        description="Wall-clock seconds between two looks at a group: metrics by domain, and a record of `status`.",
    )
    push_interval_s: float = Field(
        default=0.1, ge=0, description="Wall-clock seconds between two pushes of live features to the feature store."
    )
    session_timeout_s: float = Field(
        default=10.0, ge=6, description="Seconds without a sign of life after which Kafka gives a group to another."
    )
    transaction_timeout_s: float = Field(default=60.0, gt=0, description="Kafka's time-out of a transaction.")
    metrics_host: str = Field(default="127.0.0.1", description=_METRICS_HOST)
    metrics_port: int = Field(
        default=9102, ge=0, le=65535, description="Port of /metrics and /healthz; 0 takes a free one."
    )


class ScorerConfig(Section):
    """The HTTP scorer."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    metrics_host: str = Field(default="127.0.0.1", description=_METRICS_HOST)
    metrics_port: int = Field(
        default=9103, ge=0, le=65535, description="Port of /metrics, /healthz and /readyz; 0 takes a free one."
    )
    max_candidates: int = Field(default=2_000, ge=1, description="Candidates of one request; more are refused.")
    live_arm: bool = Field(default=True, description="False serves the frozen arm; the kernel is measured.")
    control_share: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Share of users whom the frozen arm serves, to see what the live arm is worth; 0.02 is advised.",
    )
    control_salt: str = Field(
        default="",
        max_length=64,
        description="Another value draws other control users, and begins the experiment anew.",
    )
    conversion_weight: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share w of the conversion in the score, CTR (1 - w + w CVR): 0 orders by the click, 1 by CTCVR; "
        'above 0 the backbone must have been trained with `backbone.tasks = "ctr_ctcvr"`.',
    )
    warmup_requests: int = Field(
        default=20, ge=0, description="Synthetic scorings before the scorer calls itself ready."
    )
    max_body_bytes: int = Field(
        default=4 * 1024 * 1024, ge=1_024, description="Bytes of one HTTP body; longer ones are refused."
    )
    impression_buffer_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1,
        description="Bytes of impressions that may wait for the broker; beyond it new ones are lost and counted.",
    )
    events_timeout_s: float = Field(
        default=5.0, gt=0, description="How long a call to /v1/events waits for the broker before it answers 503."
    )
    max_kernel_bytes: int = Field(default=8 * 1024 * 1024, ge=1, description="A larger kernel is refused.")
    cors_origins: tuple[str, ...] = Field(
        default=(),
        description="Origins (`scheme://host[:port]`, or `*`) whose pages may call the scorer from a browser.",
    )

    @property
    def control_users(self) -> ControlUsers:
        """The users who are served by the frozen arm."""
        return ControlUsers(self.control_share, self.control_salt)

    @field_validator("cors_origins")
    @classmethod
    def _bare_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} is no origin as browsers send it: `scheme://host[:port]` in lower case, without path "
                    "or slash at its end, or `*` for all"
                )
        return origins

"""Settings of the join, ingest, the processor and the scorer."""

from __future__ import annotations

import re

from pydantic import Field, field_validator, model_validator

from model.config import Section
from model.control_users import ControlUsers
from model.exploration import Exploration

_METRICS_HOST = (
    "Address of /metrics and /healthz. They need no key, so set another address than loopback only for your monitoring."
)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@*\sA-Z]+")


class JoinConfig(Section):
    """Settings of the join of impressions with late feedback."""

    window_s: float = Field(
        default=30.0, gt=0, description="Seconds after an impression during which feedback decides its labels."
    )
    lateness_s: float = Field(
        default=1.0,
        ge=0,
        description="Seconds by which the watermark lags the newest impression, to allow for scorers out of step.",
    )
    progress_timeout_s: float = Field(
        default=60.0,
        gt=0,
        description="Seconds without a progress report of ingest after which requests are dropped instead of being "
        "learned as negatives.",
    )
    horizon_s: float = Field(
        default=3_600.0,
        ge=0,
        description="Seconds after an impression during which a click corrects its learned label; 0 corrects none.",
    )
    conversion_window_s: float = Field(
        default=3_600.0,
        gt=0,
        description="Seconds after an impression during which a conversion belongs to it. Conversions are learned "
        "after both this and `join.horizon_s` are over.",
    )
    max_bytes: int = Field(
        default=512 * 2**20,
        ge=2**20,
        description="Memory for open requests; beyond it the oldest is dropped, not learned, and counted.",
    )
    feedback_bytes: int = Field(
        default=4 * 2**20,
        ge=2**10,
        description="Memory for feedback without its impression, 0.7 kB each; beyond it the oldest is dropped and "
        "counted. After an outage, feedback may come before its impressions.",
    )
    horizon_bytes: int = Field(
        default=64 * 2**20,
        ge=2**10,
        description="Memory for closed requests that late clicks may correct; beyond it the oldest are dropped.",
    )

    @property
    def click_s(self) -> float:
        """Seconds after its impression during which a click is accepted."""
        return max(self.window_s, self.horizon_s)

    @property
    def patience_s(self) -> float:
        """Seconds that feedback waits for its impression, and that an impression may be late without losing any."""
        return 2 * self.window_s


class IngestConfig(Section):
    """Settings of ingest, the consumer of outside events."""

    group_id: str = Field(
        default="driftline-ingest", description="Kafka consumer group, completed by a dot and `topics.traffic`."
    )
    max_poll: int = Field(default=500, ge=1, description="Records per poll.")
    future_s: float = Field(
        default=86_400.0,
        ge=0,
        description="Seconds that an event may be ahead of the broker's clock; it counts as now, or beyond is refused.",
    )
    idle_tick_s: float = Field(
        default=0.5, gt=0, description="Seconds without traffic after which ticks advance event time."
    )
    max_items: int = Field(default=1_000, ge=1, description="Items of one impression; more are refused.")
    drift_hours: float = Field(
        default=24,
        gt=0,
        description="Hours after which announced drift counts as over if its end was not announced.",
    )
    metrics_host: str = Field(default="127.0.0.1", description=_METRICS_HOST)
    metrics_port: int = Field(
        default=9101, ge=0, le=65535, description="Port of /metrics and /healthz; 0 takes a free one."
    )


class ProcessorConfig(Section):
    """Settings of the stream processor."""

    app_id: str = Field(
        default="driftline-processor",
        description="Faust application id and consumer group, completed by a dot and `topics.kernels`.",
    )
    queue_records: int = Field(
        default=2_000, ge=1, description="Records queued for the learning thread before reading pauses."
    )
    commit_interval_s: float = Field(
        default=0.5, gt=0, description="Wall-clock seconds between transactions of a group, which publish its kernels."
    )
    snapshot_interval_s: float = Field(
        default=15.0,
        gt=0,
        description="Wall-clock seconds after which a transaction contains the group's whole state, not only a kernel.",
    )
    relearn_s: float = Field(
        default=3.0,
        gt=0,
        description="... or seconds of learning, which a new owner would have to repeat.",
    )
    status_seconds: float = Field(
        default=5.0,
        ge=0.1,
        description="Wall-clock seconds between two status records of a group, with its metrics by domain.",
    )
    push_interval_s: float = Field(
        default=0.1, ge=0, description="Wall-clock seconds between two pushes of live features to the feature store."
    )
    session_timeout_s: float = Field(
        default=10.0, ge=6, description="Seconds without a heartbeat after which Kafka gives a group to another owner."
    )
    transaction_timeout_s: float = Field(default=60.0, gt=0, description="Kafka's time-out of a transaction, seconds.")
    metrics_host: str = Field(default="127.0.0.1", description=_METRICS_HOST)
    metrics_port: int = Field(
        default=9102, ge=0, le=65535, description="Port of /metrics and /healthz; 0 takes a free one."
    )


class ScorerConfig(Section):
    """Settings of the HTTP scorer."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    metrics_host: str = Field(default="127.0.0.1", description=_METRICS_HOST)
    metrics_port: int = Field(
        default=9103, ge=0, le=65535, description="Port of /metrics, /healthz and /readyz; 0 takes a free one."
    )
    max_candidates: int = Field(default=2_000, ge=1, description="Candidates in one request; more are refused.")
    live_arm: bool = Field(default=True, description="False serves the frozen arm; the kernel is only measured.")
    control_share: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Share of control users, served by the frozen arm, to measure the live arm; 0.02 is advised.",
    )
    control_salt: str = Field(
        default="",
        max_length=64,
        description="Changing this value draws other control users and starts the experiment again.",
    )
    explore_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of requests, except control users', whose first place is drawn by chance among the shown "
        "items, so that `driftline off-policy` can estimate what another kernel would be worth.",
    )
    explore_temperature: float = Field(
        default=1.0,
        gt=0,
        description="Temperature T of that draw, exp(score / T) with scores as logits: the smaller, the more often "
        "the best item comes first anyway.",
    )
    conversion_weight: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Weight w of the conversion in the score, CTR (1 - w + w CVR): 0 orders by clicks, 1 by CTCVR; "
        'above 0 it takes a backbone trained with `backbone.tasks = "ctr_ctcvr"`.',
    )
    relevance_weight: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Weight r of relevance in the score of a request with a query, which is multiplied by "
        "1 - r + r relevance: 0 orders by clicks, 1 by clicks times relevance; above 0 it takes a backbone trained "
        "with `backbone.relevance_weight`.",
    )
    warmup_requests: int = Field(
        default=20, ge=0, description="Synthetic requests that the scorer answers before it is ready."
    )
    max_body_bytes: int = Field(
        default=4 * 1024 * 1024, ge=1_024, description="Bytes of an HTTP body; longer ones are refused."
    )
    impression_buffer_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1,
        description="Bytes of impressions waiting for the broker; beyond it new ones are lost and counted.",
    )
    events_timeout_s: float = Field(
        default=5.0, gt=0, description="Seconds that a call to /v1/events waits for the broker before it answers 503."
    )
    max_kernel_bytes: int = Field(default=8 * 1024 * 1024, ge=1, description="Bytes of a kernel; larger are refused.")
    cors_origins: tuple[str, ...] = Field(
        default=(),
        description="Origins (`scheme://host[:port]`, or `*`) whose web pages may call the scorer from a browser.",
    )

    @property
    def control_users(self) -> ControlUsers:
        """The rule that draws the users served by the frozen arm."""
        return ControlUsers(self.control_share, self.control_salt)

    @property
    def exploration(self) -> Exploration:
        """The rule that draws the first place of explored requests."""
        return Exploration(self.explore_share, self.explore_temperature)

    @model_validator(mode="after")
    def _leaves_requests_to_the_experiment(self) -> ScorerConfig:
        if self.control_share and self.explore_share == 1:
            raise ValueError(
                "explore_share = 1 leaves the experiment of control_share no request of the live arm: set a smaller one"
            )
        return self

    @model_validator(mode="after")
    def _two_ports(self) -> ScorerConfig:
        if self.port == self.metrics_port != 0 and self.host == self.metrics_host:
            raise ValueError(
                f"port and metrics_port are both {self.port}, and one process cannot listen on it twice: set another "
                "metrics_port (0 takes a free one); the scorer's own port answers /healthz and /readyz too"
            )
        return self

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

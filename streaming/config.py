"""The one configuration: a TOML file, overridden by the environment, every key with a sentence.

Environment names are `DRIFTLINE_<SECTION>__<KEY>`, for example `DRIFTLINE_KAFKA__BOOTSTRAP=broker:9092`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from features.config import FeatureConfig, LiveConfig
from model.backbone.schema import InputSchema
from model.config import (
    BackboneConfig,
    DomainConfig,
    KernelConfig,
    LearnerConfig,
    PretrainConfig,
    Section,
    unfed_keys,
)
from model.encoding.domain import FACETS, UNKNOWN, Domain, DomainSpace

ENV_PREFIX = "DRIFTLINE_"
ENV_FILE = "DRIFTLINE_CONFIG"


class ConfigError(Exception):
    """The configuration is wrong; the message names the key and the cure."""


class KafkaConfig(Section):
    """Where the cluster is and how clients reach it."""

    bootstrap: str = Field(default="localhost:9092", description="Kafka bootstrap servers, `host:port[,host:port]`.")
    security_protocol: str = Field(
        default="PLAINTEXT",
        pattern="^(PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)$",
        description="Kafka security protocol.",
    )
    sasl_mechanism: str | None = Field(
        default=None, pattern="^(PLAIN|SCRAM-SHA-256|SCRAM-SHA-512)$", description="SASL mechanism."
    )
    sasl_username: str | None = Field(default=None, description="SASL user.")
    sasl_password: SecretStr | None = Field(default=None, description="SASL password; better given by the environment.")
    ssl_cafile: Path | None = Field(default=None, description="CA certificates that sign the brokers' certificates.")
    ssl_certfile: Path | None = Field(default=None, description="Client certificate.")
    ssl_keyfile: Path | None = Field(default=None, description="Client key.")
    ssl_check_hostname: bool = Field(default=True, description="Whether the broker's certificate must name its host.")
    replication_factor: int = Field(default=1, ge=1, description="Replicas of the topics that are created.")
    startup_wait_s: float = Field(
        default=60.0, gt=0, description="How long a process waits for the broker at its start."
    )

    @model_validator(mode="after")
    def _complete(self) -> KafkaConfig:
        if self.security_protocol.startswith("SASL") and not (
            self.sasl_mechanism and self.sasl_username and self.sasl_password
        ):
            raise ValueError(
                f"security_protocol {self.security_protocol} needs sasl_mechanism, sasl_username and sasl_password"
            )
        return self


class TopicConfig(Section):
    """Names of the topics."""

    interactions: str = Field(default="interactions", description="Outside events, JSON.")
    interactions_partitions: int = Field(default=2, ge=1, description="Partitions of the outside topic.")
    traffic: str = Field(default="traffic", description="Inside events, one partition per kernel group.")
    kernels: str = Field(default="kernels", description="Kernels and learner snapshots, compacted.")
    state: str = Field(default="state", description="Live features, compacted.")
    dead_letters: str = Field(default="dead-letters", description="Refused records with their reason.")
    traffic_retention_h: float = Field(
        default=48, gt=0, description="Hours that traffic is kept: recovery re-reads it."
    )


class GroupConfig(Section):
    """One kernel group: a set of domains that learn together, in one order, on one partition."""

    name: str = Field(pattern="^[a-z0-9_-]+$", description="Name of the group; request ids begin with it.")
    scene: tuple[str, ...] = Field(default=(), description="Scenes of the group; empty means all.")
    region: tuple[str, ...] = Field(default=(), description="Regions of the group; empty means all.")
    period: tuple[str, ...] = Field(default=(), description="Periods of the group; empty means all.")

    def holds(self, domain: Domain) -> bool:
        """Whether the group answers for `domain`."""
        return all(
            not allowed or value in allowed
            for allowed, value in (
                (self.scene, domain.scene),
                (self.region, domain.region),
                (self.period, domain.period),
            )
        )


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
    max_open: int = Field(
        default=200_000,
        ge=1,
        description="Open requests kept; beyond it the oldest is dropped unlearned and counted.",
    )


class IngestConfig(Section):
    """The consumer of outside events."""

    group_id: str = Field(default="driftline-ingest", description="Kafka consumer group.")
    max_poll: int = Field(default=500, ge=1, description="Records per poll.")
    future_s: float = Field(default=60.0, ge=0, description="Events further than this in the future are refused.")
    idle_tick_s: float = Field(
        default=0.5, gt=0, description="Without traffic for this long, event time is moved on by ticks."
    )
    max_items: int = Field(default=1_000, ge=1, description="Items of one impression; more are refused.")
    drift_hours: float = Field(
        default=24,
        gt=0,
        description="Hours after which announced drift counts as over although nobody announced its end.",
    )
    dead_letter_ratio: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="If more than this share of a window of records is refused, ingest stops.",
    )
    dead_letter_window: int = Field(default=1_000, ge=10, description="Records over which the share is taken.")
    metrics_port: int = Field(
        default=9101, ge=0, le=65535, description="Port of /metrics and /healthz; 0 takes a free one."
    )


class ProcessorConfig(Section):
    """The stream processor."""

    app_id: str = Field(default="driftline-processor", description="Faust application id and consumer group.")
    queue_records: int = Field(
        default=2_000, ge=1, description="Records waiting for the learner thread before reading pauses."
    )
    commit_interval_s: float = Field(
        default=0.5, gt=0, description="Wall-clock seconds between two transactions of a group."
    )
    push_interval_s: float = Field(
        default=0.1, ge=0, description="Wall-clock seconds between two pushes of live features to the feature store."
    )
    session_timeout_s: float = Field(
        default=10.0, ge=6, description="Seconds without a sign of life after which Kafka gives a group to another."
    )
    transaction_timeout_s: float = Field(default=60.0, gt=0, description="Kafka's time-out of a transaction.")
    metrics_port: int = Field(
        default=9102, ge=0, le=65535, description="Port of /metrics and /healthz; 0 takes a free one."
    )


class ScorerConfig(Section):
    """The HTTP scorer."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    max_candidates: int = Field(default=2_000, ge=1, description="Candidates of one request; more are refused.")
    live_arm: bool = Field(default=True, description="False serves the frozen arm (the kernel is off).")
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


class Config(BaseSettings):
    """All keys of Driftline."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    run_dir: Path = Field(
        default=Path("runs/default"), description="Where a run keeps its files: store, logs, reports."
    )
    cache_dir: Path = Field(
        default=Path(platformdirs.user_cache_dir("driftline")),
        description="What is fetched or trained once: jars, data, text vectors, backbones.",
    )
    backbone_path: Path | None = Field(
        default=None, description="Folder of the pretrained backbone; none takes `run_dir`/backbone."
    )
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Level of the logs.")
    kafka: KafkaConfig = KafkaConfig()
    topics: TopicConfig = TopicConfig()
    groups: tuple[GroupConfig, ...] = Field(
        default=(GroupConfig(name="main"),),
        min_length=1,
        description="Kernel groups; the first that holds a domain takes it.",
    )
    domains: DomainConfig = DomainConfig()
    features: FeatureConfig = FeatureConfig()
    live: LiveConfig = LiveConfig()
    backbone: BackboneConfig = BackboneConfig()
    pretrain: PretrainConfig = PretrainConfig()
    kernel: KernelConfig = KernelConfig()
    learner: LearnerConfig = LearnerConfig()
    join: JoinConfig = JoinConfig()
    ingest: IngestConfig = IngestConfig()
    processor: ProcessorConfig = ProcessorConfig()
    scorer: ScorerConfig = ScorerConfig()

    @field_validator("groups")
    @classmethod
    def _unique(cls, groups: tuple[GroupConfig, ...]) -> tuple[GroupConfig, ...]:
        names = [group.name for group in groups]
        if len(set(names)) != len(names):
            raise ValueError("a group name is used twice")
        return groups

    @field_validator("backbone")
    @classmethod
    def _fed(cls, backbone: BackboneConfig) -> BackboneConfig:
        if problems := unfed_keys(backbone):
            raise ValueError("; ".join(problems))
        return backbone

    @model_validator(mode="after")
    def _groups_of_declared_domains(self) -> Config:
        for group in self.groups:
            for facet in FACETS:
                strange = set(getattr(group, facet)) - {*getattr(self.domains, facet), UNKNOWN}
                if strange:
                    raise ValueError(
                        f"group {group.name!r} is for {facet} {min(strange)!r}, which domains.{facet} does not declare"
                    )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file."""
        return env_settings, init_settings

    @property
    def backbone_dir(self) -> Path:
        """Folder of the pretrained backbone."""
        return self.backbone_path or self.run_dir / "backbone"

    def domain_space(self) -> DomainSpace:
        """The declared domains."""
        return DomainSpace({"scene": self.domains.scene, "region": self.domains.region, "period": self.domains.period})

    def input_schema(self) -> InputSchema:
        """What a backbone of this configuration reads: its card must hold the same."""
        features = self.features
        return InputSchema(self.domain_space().values, features.user_fields, features.item_fields, features.text_model)

    def group_of(self, domain: Domain) -> str | None:
        """Name of the group that answers for `domain`, or None."""
        return next((group.name for group in self.groups if group.holds(domain)), None)

    def scope_of(self, domain: Domain) -> str:
        """Scope of the live features that a request of `domain` reads: its group, for each group follows its own."""
        return self.group_of(domain) or ""

    def partition_of(self, group: str) -> int | None:
        """Partition of a group in `traffic`, `kernels` and `state`, or None for a name that no group has."""
        return next((i for i, known in enumerate(self.groups) if known.name == group), None)


def group_of_request(request_id: str) -> str:
    """The group that a request id of ours names (`group.rest`); empty if it names none."""
    head, dot, _ = request_id.partition(".")
    return head if dot else ""


def _refuse_unknown_environment(environment: Mapping[str, str]) -> None:
    known = {ENV_FILE} | {ENV_PREFIX + name.upper() for name in Config.model_fields}
    for name in environment:
        if name.startswith(ENV_PREFIX) and name.upper().split("__", 1)[0] not in known:
            raise ConfigError(f"environment variable {name} is no key of Driftline; `driftline config` lists them all")


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        lines.append(f"{key}: unknown key" if problem["type"] == "extra_forbidden" else f"{key}: {problem['msg']}")
    return "; ".join(lines) + " (`driftline config` lists every key with its meaning)"


def load_config(path: Path | None = None, **overrides: Any) -> Config:
    """The configuration of `path` (or of the file that `DRIFTLINE_CONFIG` names), the environment, and `overrides`.

    Precedence: `overrides`, then the environment, then the file, then the defaults. Raises ConfigError.
    """
    _refuse_unknown_environment(os.environ)
    source = path or (Path(os.environ[ENV_FILE]) if ENV_FILE in os.environ else None)
    values: dict[str, Any] = {}
    if source is not None:
        try:
            values = tomllib.loads(source.read_text())
        except FileNotFoundError:
            raise ConfigError(f"no configuration file at {source}") from None
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{source}: {error}") from error
    try:
        config = Config(**values)
        return config.model_copy(update=overrides) if overrides else config
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error

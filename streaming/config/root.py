"""The whole configuration, and the values derived from several sections."""

from __future__ import annotations

from pathlib import Path

import platformdirs
from pydantic import Field, field_validator, model_validator

from features.config import FeatureConfig, LiveConfig
from model.backbone.schema import InputSchema
from model.config import (
    BackboneConfig,
    DomainConfig,
    KernelConfig,
    LearnerConfig,
    PretrainConfig,
    Section,
)
from model.drift.config import DriftConfig
from model.encoding.domain import FACETS, UNKNOWN, Domain, DomainSpace
from model.gate.config import GateConfig
from model.paths import UserPath, user_path
from streaming.config.access import AccessConfig
from streaming.config.cluster import GroupConfig, KafkaConfig, TopicConfig
from streaming.config.errors import ConfigError
from streaming.config.processes import IngestConfig, JoinConfig, ProcessorConfig, ScorerConfig


def _users_cache() -> Path:
    # Called only if the folder is not configured, because a container's user may have no home.
    try:
        return user_path(platformdirs.user_cache_dir("driftline"))
    except (RuntimeError, ValueError):  # platformdirs raises RuntimeError if it cannot expand `~`
        raise ConfigError(
            "this user has no home folder to keep a cache in: set DRIFTLINE_CACHE_DIR (or cache_dir) to a folder"
            " that can be written"
        ) from None


class Config(Section):
    """All keys of Driftline. `Config()` holds the defaults; `load_config` adds file and environment."""

    run_dir: UserPath = Field(
        default=Path("runs/default"), description="Folder of a run's files: store, logs, reports."
    )
    cache_dir: UserPath = Field(
        default_factory=_users_cache,
        description="Folder of files that are fetched or trained once: jars, data, text vectors, backbones.",
    )
    backbone_path: UserPath | None = Field(
        default=None, description="Folder of the pretrained backbone; the default is `run_dir`/backbone."
    )
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Level of the logs.")
    kafka: KafkaConfig = KafkaConfig()
    topics: TopicConfig = TopicConfig()
    groups: tuple[GroupConfig, ...] = Field(
        default=(GroupConfig(name="main"),),
        min_length=1,
        description="Kernel groups; a domain belongs to the first group that includes it.",
    )
    domains: DomainConfig = DomainConfig()
    features: FeatureConfig = FeatureConfig()
    live: LiveConfig = LiveConfig()
    backbone: BackboneConfig = BackboneConfig()
    pretrain: PretrainConfig = PretrainConfig()
    kernel: KernelConfig = KernelConfig()
    learner: LearnerConfig = LearnerConfig()
    gate: GateConfig = GateConfig()
    drift: DriftConfig = DriftConfig()
    join: JoinConfig = JoinConfig()
    ingest: IngestConfig = IngestConfig()
    processor: ProcessorConfig = ProcessorConfig()
    scorer: ScorerConfig = ScorerConfig()
    access: AccessConfig = AccessConfig()

    @field_validator("groups")
    @classmethod
    def _unique(cls, groups: tuple[GroupConfig, ...]) -> tuple[GroupConfig, ...]:
        names = [group.name for group in groups]
        if len(set(names)) != len(names):
            raise ValueError("a group name is used twice")
        return groups

    @model_validator(mode="after")
    def _groups_of_declared_domains(self) -> Config:
        for group in self.groups:
            for facet in FACETS:
                undeclared = set(getattr(group, facet)) - {*getattr(self.domains, facet), UNKNOWN}
                if undeclared:
                    raise ValueError(
                        f"group {group.name!r} is for {facet} {min(undeclared)!r},"
                        f" which domains.{facet} does not declare"
                    )
        return self

    @model_validator(mode="after")
    def _late_clicks_find_their_impression(self) -> Config:
        longest_s = max(self.join.click_s, self.join.conversion_window_s)
        if longest_s > 3_600 * self.topics.traffic_retention_h:
            raise ValueError(
                f"feedback is believed for {longest_s:g} s (join.window_s, join.horizon_s, join.conversion_window_s),"
                f" longer than the {self.topics.traffic_retention_h:g} h that `traffic` keeps its impression:"
                " raise topics.traffic_retention_h"
            )
        return self

    @property
    def backbone_dir(self) -> Path:
        """Folder of the pretrained backbone."""
        return self.backbone_path or self.run_dir / "backbone"

    @property
    def processor_consumers(self) -> str:
        """Consumer group of all processors that write the same `kernels`; others may read the same traffic."""
        return f"{self.processor.app_id}.{self.topics.kernels}"

    @property
    def ingest_consumers(self) -> str:
        """Consumer group of all ingest processes that write the same `traffic`."""
        return f"{self.ingest.group_id}.{self.topics.traffic}"

    @property
    def profile_consumers(self) -> str:
        """Consumer group of all profile lanes that write the same feature store."""
        return f"{self.ingest_consumers}.{self.features.project}"

    def domain_space(self) -> DomainSpace:
        """The declared domains."""
        return DomainSpace({"scene": self.domains.scene, "region": self.domains.region, "period": self.domains.period})

    def input_schema(self) -> InputSchema:
        """The inputs that a backbone of this configuration reads, to be compared with its card."""
        features, backbone, facets = self.features, self.backbone, self.domain_space().values
        return InputSchema(
            facets, features.user_fields, features.item_fields, features.text_model, backbone.item_aspects,
            backbone.query_aspects,
        )  # fmt: skip

    def group_of(self, domain: Domain) -> str | None:
        """Name of the group that `domain` belongs to, or None."""
        return next((group.name for group in self.groups if group.holds(domain)), None)

    def domains_of(self, group: str) -> list[str]:
        """Keys of the declared domains that belong to a group, ``unknown`` values included."""
        return [domain.key for domain in self.domain_space().domains() if self.group_of(domain) == group]

    def scope_of(self, domain: Domain) -> str:
        """Scope of the live features for requests of `domain`: its group, because each group has live rows of its
        own."""
        return self.group_of(domain) or ""

    def partition_of(self, group: str) -> int | None:
        """Partition of a group in `traffic`, `kernels` and `state`; None for an unknown group."""
        return next((i for i, known in enumerate(self.groups) if known.name == group), None)

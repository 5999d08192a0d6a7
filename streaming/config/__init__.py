"""The configuration: a TOML file, overridden by the environment; every key has a description.

Environment names are `DRIFTLINE_<SECTION>__<KEY>`, for example `DRIFTLINE_KAFKA__BOOTSTRAP=broker:9092`.
"""

from streaming.config.access import AccessConfig, KeyConfig, Right
from streaming.config.cluster import GroupConfig, KafkaConfig, TopicConfig, group_of_request
from streaming.config.environment import ENV_FILE, ENV_PREFIX
from streaming.config.errors import ConfigError
from streaming.config.load import load_config
from streaming.config.processes import IngestConfig, JoinConfig, ProcessorConfig, ScorerConfig
from streaming.config.root import Config

__all__ = [
    "ENV_FILE",
    "ENV_PREFIX",
    "AccessConfig",
    "Config",
    "ConfigError",
    "GroupConfig",
    "IngestConfig",
    "JoinConfig",
    "KafkaConfig",
    "KeyConfig",
    "ProcessorConfig",
    "Right",
    "ScorerConfig",
    "TopicConfig",
    "group_of_request",
    "load_config",
]

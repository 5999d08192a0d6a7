"""Settings of backbone, kernel and learner, each validated once and described by one sentence.

A setting is declared in the file of its section, and imported from here.
"""

from model.config.backbone import (
    ITEM_ASPECTS,
    MAX_QUERY,
    NO_QUERY,
    QUERY_ASPECTS,
    BackboneConfig,
    ItemAspect,
    QueryAspect,
)
from model.config.data import OWN_COLUMNS, DomainConfig, FieldSpec, field_name
from model.config.history import NO_HISTORY, HistorySpec
from model.config.kernel import KernelConfig, LearnerConfig
from model.config.pretrain import PretrainConfig
from model.config.section import MAX_SEED, Section

__all__ = [
    "ITEM_ASPECTS",
    "MAX_QUERY",
    "MAX_SEED",
    "NO_HISTORY",
    "NO_QUERY",
    "OWN_COLUMNS",
    "QUERY_ASPECTS",
    "BackboneConfig",
    "DomainConfig",
    "FieldSpec",
    "HistorySpec",
    "ItemAspect",
    "KernelConfig",
    "LearnerConfig",
    "PretrainConfig",
    "QueryAspect",
    "Section",
    "field_name",
]

"""Settings of the feature store, the text encoder and the live features."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from features.redis_address import redis_address
from model.config import FieldSpec, Section
from model.paths import user_name_or_path

_PROJECT = re.compile(r"[^\W_][\w-]*")


class FeatureConfig(Section):
    """Settings of Feast, the text encoder and the fields of profiles."""

    online_store: Literal["sqlite", "redis"] = Field(default="sqlite", description="Feast's online store.")
    redis: str = Field(default="localhost:6379", description="Redis address for Feast, `host:port[,option=value]`.")
    redis_password: SecretStr | None = Field(
        default=None, description="Redis password; better given by the environment."
    )
    project: str = Field(default="driftline", description="Name of the Feast project.")
    text_model: str = Field(
        default="all-MiniLM-L6-v2",
        description="Any sentence-transformers model, by name or path; the default's weights come with the package.",
    )
    max_text: int = Field(
        default=2_000, ge=1, description="Characters of a text that are encoded; the rest is cut off and counted."
    )
    max_age_profile_s: float = Field(
        default=0, ge=0, description="Profiles older than this are stale and replaced by defaults; 0 is no limit."
    )
    max_age_live_s: float = Field(
        default=0,
        ge=0,
        description="Live rows older than this count as stale and are replaced by defaults; 0 is no limit, which is "
        "safe: residuals decay by themselves, and counters do not go stale.",
    )
    user_cache_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=1,
        description="Bytes of user profiles that a scorer caches (about 1 kB each); with `backbone.trunk` dssm, as "
        "many again for user vectors.",
    )
    user_cache_s: float = Field(
        default=5.0,
        ge=0,
        description="Seconds for which a scorer caches a user's profile, or that an item is unknown.",
    )
    item_cache_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=1,
        description="Bytes of item profiles that a scorer caches (about 3 kB each); an eighth of it for unknown items.",
    )
    item_cache_s: float = Field(default=60.0, ge=0, description="Seconds for which a scorer caches an item's profile.")
    query_cache_bytes: int = Field(
        default=32 * 1024 * 1024, ge=1, description="Bytes of encoded queries that a scorer caches (about 3 kB each)."
    )
    user_fields: tuple[FieldSpec, ...] = Field(
        default=(
            FieldSpec(name="age", kind="number"),
            FieldSpec(name="gender"),
            FieldSpec(name="occupation"),
        ),
        description="Sparse fields of a user.",
    )
    item_fields: tuple[FieldSpec, ...] = Field(
        default=(FieldSpec(name="genres", kind="multi"), FieldSpec(name="year", kind="number")),
        description="Sparse fields of an item.",
    )

    @field_validator("project")
    @classmethod
    def _names_tables(cls, project: str) -> str:
        if not _PROJECT.fullmatch(project):
            raise ValueError(f"{project!r} is no name of a project: give letters, digits and underscores")
        return project

    @model_validator(mode="after")
    def _no_hyphen_in_a_table(self) -> FeatureConfig:
        if self.online_store == "sqlite" and "-" in self.project:
            raise ValueError(f"project {self.project!r} has a hyphen, but it names tables of SQLite: use an underscore")
        return self

    @field_validator("user_fields", "item_fields")
    @classmethod
    def _unique(cls, specs: tuple[FieldSpec, ...]) -> tuple[FieldSpec, ...]:
        names = [spec.name for spec in specs]
        if len(set(names)) != len(names):
            raise ValueError("a field is declared twice")
        return specs

    @field_validator("redis")
    @classmethod
    def _address_alone(cls, address: str) -> str:
        if "password=" in address:
            raise ValueError("the address is printed and logged: set the password as features.redis_password instead")
        return redis_address(address)

    @field_validator("text_model")
    @classmethod
    def _home_written_out(cls, model: str) -> str:
        return user_name_or_path(model)


class LiveConfig(Section):
    """Settings of the live features: decayed residuals of the frozen arm (T), and counters of shown and clicked."""

    half_lives_s: tuple[float, float] = Field(
        default=(60.0, 3_600.0), description="Short and long half-life of the residuals, seconds of event time."
    )
    prior_examples: float = Field(default=4.0, gt=0, description="Pseudo-examples with residual 0 in every mean.")
    ridge_prior: float = Field(
        default=4.0,
        gt=0,
        description="Prior precision of the per-user ridge regression, in units of the noise's precision.",
    )
    max_users: int = Field(
        default=200_000,
        ge=1,
        description="Users kept (about 1 kB each); those idle longest are dropped first, and counted.",
    )
    max_items: int = Field(
        default=1_000_000, ge=1, description="Items kept; those idle longest are dropped first, and counted."
    )
    max_domains: int = Field(
        default=10_000,
        ge=1,
        description="Domains, and facet values, kept; those idle longest are dropped first, and counted.",
    )

    @field_validator("half_lives_s")
    @classmethod
    def _short_before_long(cls, values: tuple[float, float]) -> tuple[float, float]:
        if not 0 < values[0] <= values[1]:
            raise ValueError("half-lives must be positive, the short one first")
        return values

"""Access to the scorer's HTTP interface: keys, signatures and limits."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, field_validator

from model.config import Section

Right = Literal["score", "feedback", "impression", "profile", "drift", "read", "operator"]

_LEAST_SECRET = 32


class KeyConfig(Section):
    """One API key: its holder and its rights. `driftline key new` makes one."""

    name: str = Field(
        pattern="^[a-z0-9_.-]{1,64}$", description="Name of the holder; metrics and log lines show it, never the key."
    )
    hash: str = Field(
        pattern="^sha256:[0-9a-f]{64}$", description="`sha256:` and the digest of the key, which is no secret."
    )
    may: tuple[Right, ...] = Field(
        min_length=1,
        description="Rights of the key: `score` for /v1/score; `feedback`, `impression`, `profile` (users and items) "
        "and `drift` for these events at /v1/events; `read` to see kernels and verdicts; "
        "`operator` to see them and to give orders.",
    )


class AccessConfig(Section):
    """Access to the scorer's HTTP interface, and its limits (SECURITY.md describes the whole model)."""

    keys: tuple[KeyConfig, ...] = Field(
        default=(),
        examples=[[{"name": "shop", "hash": "sha256:<64 hex digits>", "may": ["score", "feedback"]}]],
        description="API keys; a caller sends one as `Authorization: Bearer KEY`. Without keys everybody may call, "
        "which is refused unless scorer.host is a loopback address.",
    )
    request_id_secrets: tuple[SecretStr, ...] = Field(
        default=(),
        description="Secrets that sign request ids, from `driftline key secret`. Scorers sign with the first; scorers "
        "and ingest accept feedback signed with any. Without secrets, anybody who can send feedback can forge it.",
    )
    unsigned_ids: tuple[str, ...] = Field(
        default=(),
        description="Prefixes of request ids that other systems make; if ids are signed, these need no signature, and "
        "impressions with any other unsigned id are refused.",
    )
    requests_per_s: float = Field(
        default=0,
        ge=0,
        description="Calls per second of one key, or of one address for calls without a valid key; more are answered "
        "429. 0 sets no limit.",
    )
    max_events: int = Field(default=1_000, ge=1, description="Events in one call to /v1/events; more are refused.")
    max_waiting_candidates: int = Field(
        default=50_000,
        ge=1,
        description="Candidates of large requests that may wait to be scored; more are answered 503.",
    )
    max_connections: int = Field(
        default=1_024,
        ge=1,
        description="Open connections; beyond this number, the one that has kept the scorer waiting longest is closed.",
    )
    request_timeout_s: float = Field(
        default=10.0,
        gt=0,
        description="Seconds within which a request must arrive completely, and an answer must be read.",
    )

    @field_validator("keys")
    @classmethod
    def _distinct_names(cls, keys: tuple[KeyConfig, ...]) -> tuple[KeyConfig, ...]:
        for part in ("name", "hash"):
            values = [getattr(key, part) for key in keys]
            if len(set(values)) != len(values):
                raise ValueError(f"the {part} {max(values, key=values.count)!r} is listed twice")
        return keys

    @field_validator("request_id_secrets")
    @classmethod
    def _long(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(secret.get_secret_value()) < _LEAST_SECRET for secret in secrets):
            raise ValueError(f"a secret has fewer than {_LEAST_SECRET} characters: `driftline key secret` makes one")
        return secrets

    @field_validator("unsigned_ids")
    @classmethod
    def _not_all(cls, beginnings: tuple[str, ...]) -> tuple[str, ...]:
        if "" in beginnings:
            raise ValueError("an empty prefix matches every id: leave request_id_secrets empty instead")
        return beginnings

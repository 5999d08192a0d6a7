"""Settings of the Kafka cluster, its topics, and the kernel groups."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, field_validator, model_validator

from model.config import Section
from model.encoding.domain import Domain
from model.paths import UserPath

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s/:,\[\]]+):(?P<port>[0-9]{1,5})")


class KafkaConfig(Section):
    """Address of the cluster and how clients connect to it."""

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
    ssl_cafile: UserPath | None = Field(
        default=None, description="CA certificates that sign the brokers' certificates."
    )
    ssl_certfile: UserPath | None = Field(default=None, description="Client certificate.")
    ssl_keyfile: UserPath | None = Field(default=None, description="Client key.")
    ssl_check_hostname: bool = Field(default=True, description="Whether the broker's certificate must name its host.")
    replication_factor: int = Field(default=1, ge=1, description="Replicas of the topics that are created.")
    startup_wait_s: float = Field(
        default=60.0, gt=0, description="Seconds that a starting process waits for the broker."
    )

    @field_validator("bootstrap")
    @classmethod
    def _addresses(cls, bootstrap: str) -> str:
        # Each client would fail in its own way, one of them with a number that it cannot read.
        for address in bootstrap.split(","):
            found = _ADDRESS.fullmatch(address.strip())
            if found is None or not 0 < int(found["port"]) < 2**16:
                raise ValueError(f"{address!r} is no address: give `host:port`, several with commas")
        return bootstrap

    @model_validator(mode="after")
    def _complete(self) -> KafkaConfig:
        if self.security_protocol.startswith("SASL") and not (
            self.sasl_mechanism and self.sasl_username and self.sasl_password
        ):
            raise ValueError(
                f"security_protocol {self.security_protocol} needs sasl_mechanism, sasl_username and sasl_password"
            )
        return self


def _not_dots(name: str) -> str:
    if name in {".", ".."} or name.startswith("__"):
        raise ValueError(f"Kafka accepts no topic that is called {name!r}, or keeps it for itself")
    return name


TopicName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,249}$"), AfterValidator(_not_dots)]
"""A topic name that Kafka accepts."""


class TopicConfig(Section):
    """Names of the topics."""

    interactions: TopicName = Field(default="interactions", description="Outside events, JSON.")
    interactions_partitions: int = Field(default=2, ge=1, description="Partitions of the outside topic.")
    traffic: TopicName = Field(default="traffic", description="Inside events, one partition per kernel group.")
    kernels: TopicName = Field(default="kernels", description="Kernels and learner snapshots, compacted.")
    state: TopicName = Field(default="state", description="Live features, compacted.")
    dead_letters: TopicName = Field(default="dead-letters", description="Refused records with their reason.")
    history: TopicName = Field(default="history", description="Every published kernel, one partition per kernel group.")
    control: TopicName = Field(default="control", description="Operators' orders, compacted.")
    decisions: TopicName = Field(default="decisions", description="Every decision about kernels, with its evidence.")
    status: TopicName = Field(default="status", description="Periodic status of each kernel group, by domain.")
    traffic_retention_h: float = Field(
        default=48, gt=0, le=1e6, description="Hours that traffic is kept, which recovery reads again."
    )
    history_retention_h: float = Field(
        default=48,
        gt=0,
        le=1e6,
        description="Hours that published kernels are kept, for listing and pinning.",
    )
    decisions_retention_h: float = Field(
        default=8760, gt=0, le=1e6, description="Hours that decisions are kept, the audit of changes and their reasons."
    )
    status_retention_h: float = Field(
        default=48, gt=0, le=1e6, description="Hours that status is kept, which limits how far back the page goes."
    )

    @model_validator(mode="after")
    def _each_its_own(self) -> TopicConfig:
        # Kafka writes a dot as an underscore in its metrics, and refuses a topic whose name differs in that alone.
        names = [name.replace(".", "_") for name in self.names().values()]
        if len(set(names)) != len(names):
            twice = max(names, key=names.count)
            raise ValueError(f"{twice!r} is the name of two topics (a dot counts as an underscore): give each its own")
        return self

    def names(self) -> dict[str, str]:
        """The topics' names by their configuration keys."""
        return {key: value for key, value in self if isinstance(value, str)}


class GroupConfig(Section):
    """One kernel group: a set of domains that learn together, in one order, on one partition."""

    name: str = Field(
        pattern="^[a-z0-9_-]+$", max_length=64, description="Name of the group; request ids begin with it."
    )
    scene: tuple[str, ...] = Field(default=(), description="Scenes of the group; empty means all.")
    region: tuple[str, ...] = Field(default=(), description="Regions of the group; empty means all.")
    period: tuple[str, ...] = Field(default=(), description="Periods of the group; empty means all.")

    def holds(self, domain: Domain) -> bool:
        """Whether `domain` belongs to the group."""
        return all(
            not allowed or value in allowed
            for allowed, value in (
                (self.scene, domain.scene),
                (self.region, domain.region),
                (self.period, domain.period),
            )
        )


def group_of_request(request_id: str) -> str:
    """The group named in a request id that Driftline made (`group.rest`); empty if it names none."""
    head, dot, _ = request_id.partition(".")
    return head if dot else ""

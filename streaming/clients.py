"""Kafka clients: one section of the configuration serves three libraries.

kafka-python is used by ingest and the commands, aiokafka by the scorer and the transactions, Faust by the processor.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import (
    AuthorizationError,
    KafkaError,
    LeaderNotAvailableError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_fixed

from streaming.config import KafkaConfig
from streaming.record_sizes import MAX_RECORD_BYTES
from streaming.retries import Throttle, stoppable_sleep

if TYPE_CHECKING:
    import faust

RECONNECT_MAX_MS = 1_000
"""Longest pause between two attempts to reach the broker; the libraries' own default is 30 s."""

_ASK_MS = 1_000
COMMAND_CONNECT_MS = 5_000
"""Milliseconds after which a command that reads a topic and ends says that no broker answers."""
_RETRY_S = 0.2
_LOG_EVERY_S = 3.0
_WAITING = (
    "waiting for Kafka on %s (%.0f s left); start one with `driftline broker start`, or name yours with "
    "`driftline --bootstrap HOST:PORT` or the key kafka.bootstrap"
)
"""Log message of `wait_for_broker`, for the address and the seconds left."""
_T = TypeVar("_T")
_Client = TypeVar("_Client", KafkaAdminClient, KafkaConsumer, KafkaProducer)

_REFUSED = (SaslAuthenticationFailedError, UnsupportedSaslMechanismError, AuthorizationError)


class BrokerUnreachable(Exception):
    """No broker answered in time; the message names the address and the cure."""


class BrokerRefused(Exception):
    """The broker answered and refused these credentials."""


class TlsFileError(Exception):
    """A certificate or key file cannot be used; the message names the key, the file and the cause."""


def servers(config: KafkaConfig) -> list[str]:
    """The bootstrap servers, one `host:port` each."""
    return [server.strip() for server in config.bootstrap.split(",") if server.strip()]


def ssl_context(config: KafkaConfig) -> ssl.SSLContext | None:
    """The TLS settings as a context, None if the protocol has no TLS. Raises TlsFileError."""
    if "SSL" not in config.security_protocol.split("_"):
        return None
    authorities = config.ssl_cafile
    if authorities is None:
        context = ssl.create_default_context()
    else:
        context = _loaded("ssl_cafile", authorities, lambda: ssl.create_default_context(cafile=authorities))
    context.check_hostname = config.ssl_check_hostname
    if config.ssl_certfile:
        cert, key = config.ssl_certfile, config.ssl_keyfile
        _loaded("ssl_certfile", cert, lambda: context.load_cert_chain(cert, key))
    return context


def _loaded(key: str, path: Path, load: Callable[[], _T]) -> _T:
    try:
        return load()
    except OSError as error:  # ssl.SSLError is one; neither names the file
        raise TlsFileError(f"kafka.{key} = {path} cannot be used ({error}); it must be a readable PEM file") from error


def _credentials(config: KafkaConfig) -> dict[str, Any]:
    options: dict[str, Any] = {"security_protocol": config.security_protocol}
    if config.security_protocol.startswith("SASL") and config.sasl_password is not None:
        options["sasl_mechanism"] = config.sasl_mechanism
        options["sasl_plain_username"] = config.sasl_username
        options["sasl_plain_password"] = config.sasl_password.get_secret_value()
    context = ssl_context(config)
    if context is not None:
        options["ssl_context"] = context
    return options


def kafka_python_options(config: KafkaConfig) -> dict[str, Any]:
    """Options for every kafka-python client: address, credentials, TLS, and a short reconnect pause."""
    return {
        "bootstrap_servers": servers(config),
        "reconnect_backoff_max_ms": RECONNECT_MAX_MS,
        "ssl_check_hostname": config.ssl_check_hostname,
        **_credentials(config),
    }


def aiokafka_options(config: KafkaConfig) -> dict[str, Any]:
    """Options for every aiokafka client: address, credentials, TLS."""
    return {"bootstrap_servers": servers(config), **_credentials(config)}


def faust_brokers(config: KafkaConfig) -> str:
    """The cluster as Faust writes it: `kafka://host:port;kafka://host:port`."""
    return ";".join(f"kafka://{server}" for server in servers(config))


def faust_broker_credentials(config: KafkaConfig) -> faust.Credentials | None:
    """Credentials for `faust.App(broker_credentials=...)`, None for a cluster without any."""
    if config.security_protocol == "PLAINTEXT":
        return None
    from faust.auth import SASLCredentials, SSLCredentials

    context = ssl_context(config)
    if config.security_protocol == "SSL":
        return SSLCredentials(context)
    assert config.sasl_password is not None  # the configuration refuses SASL without it
    return SASLCredentials(
        username=config.sasl_username,
        password=config.sasl_password.get_secret_value(),
        mechanism=config.sasl_mechanism,
        ssl_context=context,
    )


def make_producer(config: KafkaConfig, **options: Any) -> KafkaProducer:
    """An idempotent kafka-python producer that waits for all replicas; `options` are passed on."""
    defaults = {
        "acks": "all",
        "max_request_size": MAX_RECORD_BYTES,
        "linger_ms": 5,
        "batch_size": 256 * 1024,
        "allow_auto_create_topics": False,  # the broker would create them with its own partitions and limits
    }
    return _opened(KafkaProducer, **kafka_python_options(config), **{**defaults, **options})


def make_consumer(config: KafkaConfig, *topics: str, **options: Any) -> KafkaConsumer:
    """A kafka-python consumer that commits only when told to; `options` are passed on."""
    defaults = {"enable_auto_commit": False, "auto_offset_reset": "earliest", "allow_auto_create_topics": False}
    return _opened(KafkaConsumer, *topics, **kafka_python_options(config), **{**defaults, **options})


def end_offsets(
    consumer: KafkaConsumer, partitions: Collection[TopicPartition], timeout_ms: int
) -> dict[TopicPartition, int]:
    """The next offset of each partition. Raises KafkaError, a retriable one for a partition without a leader."""
    return _offsets(consumer.end_offsets, partitions, timeout_ms)


def begin_offsets(
    consumer: KafkaConsumer, partitions: Collection[TopicPartition], timeout_ms: int
) -> dict[TopicPartition, int]:
    """The first offset that each partition still has. Raises KafkaError as `end_offsets`."""
    return _offsets(consumer.beginning_offsets, partitions, timeout_ms)


def _offsets(
    ask: Callable[..., Any], partitions: Collection[TopicPartition], timeout_ms: int
) -> dict[TopicPartition, int]:
    try:
        offsets: dict[TopicPartition, int] = ask(list(partitions), timeout_ms=timeout_ms)
    except KeyError as error:
        # If kafka-python does not know a partition's leader, it omits the partition and then fails with a KeyError.
        raise LeaderNotAvailableError(f"no leader is known for {error}") from error
    return offsets


def make_admin(config: KafkaConfig, **options: Any) -> KafkaAdminClient:
    """A kafka-python admin client."""
    return _opened(KafkaAdminClient, **kafka_python_options(config), **options)


def _opened(kind: type[_Client], *topics: str, **options: Any) -> _Client:
    """A client of this kind. One that cannot be made would leave its connections, and the thread that renews them."""
    connections: list[Any] = []

    def connect(**settings: Any) -> Any:
        connections.append(kind.DEFAULT_CONFIG["kafka_client"](**settings))
        return connections[-1]

    try:
        return kind(*topics, **options, kafka_client=connect)
    except BaseException:
        for made in connections:
            made.close()
        raise


def missing_topics(config: KafkaConfig, names: Sequence[str]) -> list[str]:
    """The topics that the cluster does not have, in their order. Raises KafkaError if it does not answer soon."""
    with make_admin(config, bootstrap_timeout_ms=_ASK_MS, request_timeout_ms=_ASK_MS) as admin:
        existing = set(admin.list_topics())
    return [name for name in names if name not in existing]


def topic_id(admin: KafkaAdminClient, name: str) -> str | None:
    """The id that the cluster gave a topic, None if there is no such topic. Raises KafkaError.

    A topic that is deleted and created again gets another id, and offsets of the old one have no meaning in it.
    """
    (described,) = admin.describe_topics([name])
    return None if described["error_code"] else str(described["topic_id"])


def quiet_client_logs() -> None:
    """Hides kafka-python's log, because it reports every failed attempt to connect as an error."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


def wait_for_broker(config: KafkaConfig, log: logging.Logger, stopping: threading.Event | None = None) -> None:
    """Waits until the cluster answers, up to `startup_wait_s`, and logs that it waits.

    Raises BrokerUnreachable when the time is over, BrokerRefused at once for wrong credentials, TlsFileError, and
    StoppedError as soon as `stopping` is set.
    """
    quiet_client_logs()
    throttle = Throttle(_LOG_EVERY_S)
    deadline = time.monotonic() + config.startup_wait_s

    def note(_: RetryCallState) -> None:
        if throttle.due():
            log.warning(_WAITING, config.bootstrap, max(0.0, deadline - time.monotonic()))

    retrying = Retrying(
        retry=retry_if_exception(_may_come_back),
        stop=stop_after_delay(config.startup_wait_s),
        wait=wait_fixed(_RETRY_S),
        sleep=stoppable_sleep(stopping or threading.Event()),
        before_sleep=note,
        reraise=True,
    )
    try:
        retrying(lambda: _ask(config, deadline))
    except _REFUSED as error:
        raise BrokerRefused(
            f"Kafka on {config.bootstrap} refused the credentials ({error}); check the keys"
            " kafka.security_protocol, kafka.sasl_mechanism, kafka.sasl_username and kafka.sasl_password"
        ) from error
    except (KafkaError, OSError) as error:
        raise BrokerUnreachable(
            f"no Kafka answered on {config.bootstrap} within {config.startup_wait_s:.0f} s ({error}); start one"
            " with `driftline broker start`, or name yours with the key kafka.bootstrap"
        ) from error


def _ask(config: KafkaConfig, deadline: float) -> None:
    half_ms = int((deadline - time.monotonic()) * 500)  # half of the rest, so that even a short wait asks twice
    with make_admin(config, bootstrap_timeout_ms=max(200, min(_ASK_MS, half_ms))) as admin:
        admin.describe_cluster()


def _may_come_back(error: BaseException) -> bool:
    return isinstance(error, (KafkaError, OSError)) and not isinstance(error, _REFUSED)

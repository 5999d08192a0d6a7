"""How the configuration reaches each client library, and waiting for a broker."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka.errors import KafkaError
from pydantic import SecretStr

from local.broker import LocalBroker
from local.watchdog import Watchdog
from streaming.clients import (
    BrokerUnreachable,
    TlsFileError,
    aiokafka_options,
    faust_broker_credentials,
    faust_brokers,
    kafka_python_options,
    make_admin,
    make_consumer,
    make_producer,
    missing_topics,
    ssl_context,
    wait_for_broker,
)
from streaming.config import Config, KafkaConfig
from streaming.retries import StoppedError
from streaming.topics import ensure_topics

LOG = logging.getLogger("test")


def secured(protocol: str, **changes: object) -> KafkaConfig:
    values: dict[str, object] = {
        "bootstrap": "a:1, b:2",
        "security_protocol": protocol,
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_username": "me",
        "sasl_password": SecretStr("secret"),
    }
    return KafkaConfig.model_validate(values | changes)


def test_every_bootstrap_server_reaches_every_client() -> None:
    config = KafkaConfig(bootstrap="a:1, b:2")
    assert kafka_python_options(config)["bootstrap_servers"] == ["a:1", "b:2"]
    assert aiokafka_options(config)["bootstrap_servers"] == ["a:1", "b:2"]
    assert faust_brokers(config) == "kafka://a:1;kafka://b:2"


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_credentials_reach_every_client(protocol: str) -> None:
    config = secured(protocol)
    for options in (kafka_python_options(config), aiokafka_options(config)):
        assert options["security_protocol"] == protocol
        assert options["sasl_mechanism"] == "SCRAM-SHA-256"
        assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("me", "secret")
        assert ("ssl_context" in options) == (protocol == "SASL_SSL")
    credentials = faust_broker_credentials(config)
    assert credentials is not None
    assert (credentials.protocol.value, credentials.mechanism.value) == (protocol, "SCRAM-SHA-256")
    assert (credentials.username, credentials.password) == ("me", "secret")


def test_a_plain_cluster_gets_no_credentials_and_no_tls() -> None:
    config = KafkaConfig()
    assert faust_broker_credentials(config) is None
    assert ssl_context(config) is None
    assert "sasl_mechanism" not in kafka_python_options(config)


def test_tls_without_sasl_gives_faust_a_context_with_the_configured_host_check() -> None:
    config = KafkaConfig(security_protocol="SSL", ssl_check_hostname=False)
    credentials = faust_broker_credentials(config)
    assert credentials is not None and isinstance(credentials.context, ssl.SSLContext)
    assert credentials.context.check_hostname is False
    assert credentials.context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("key", ["ssl_cafile", "ssl_certfile"])
def test_an_unusable_tls_file_is_reported_with_its_key(tmp_path: Path, key: str) -> None:
    (tmp_path / "torn.pem").write_text("nonsense")
    for name in ("absent.pem", "torn.pem"):
        config = KafkaConfig.model_validate({"security_protocol": "SSL", key: tmp_path / name})
        with pytest.raises(TlsFileError, match=rf"kafka\.{key} = .*{name} cannot be used"):
            ssl_context(config)


def test_an_unreachable_broker_is_reported_with_a_remedy(caplog: pytest.LogCaptureFixture) -> None:
    config = KafkaConfig(bootstrap="127.0.0.1:1", startup_wait_s=0.5)
    with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:1 .*driftline broker start"):
        wait_for_broker(config, LOG)
    assert "waiting for Kafka on 127.0.0.1:1" in caplog.text and "driftline broker start" in caplog.text


@pytest.mark.parametrize("make", [make_admin, make_consumer, make_producer])
def test_a_client_that_cannot_be_made_leaves_no_thread(make: Callable[..., object]) -> None:
    before = set(threading.enumerate())
    with pytest.raises(KafkaError):
        make(KafkaConfig(bootstrap="127.0.0.1:1"), bootstrap_timeout_ms=200)
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive(), thread.name


def test_a_stopping_process_does_not_wait_for_the_broker() -> None:
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(StoppedError):
        wait_for_broker(KafkaConfig(bootstrap="127.0.0.1:1", startup_wait_s=3_600.0), LOG, stopping)


def test_missing_topics_are_listed_in_order(stream_config: Config) -> None:
    names = stream_config.topics
    asked = [names.traffic, "nowhere", names.interactions]
    assert missing_topics(stream_config.kafka, asked) == asked
    ensure_topics(stream_config)
    assert missing_topics(stream_config.kafka, asked) == ["nowhere"]


@pytest.mark.slow
def test_a_broker_that_starts_late_is_waited_for(tmp_path: Path, cache_dir: Path, watchdog: Watchdog) -> None:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    late = LocalBroker(tmp_path, cache_dir, port, watchdog=watchdog)
    done: list[float] = []

    def wait() -> None:
        wait_for_broker(KafkaConfig(bootstrap=f"127.0.0.1:{port}"), LOG)
        done.append(time.monotonic())

    waiting = threading.Thread(target=wait)
    waiting.start()
    try:
        late.start()
        waiting.join(60)
        assert done
    finally:
        late.stop()

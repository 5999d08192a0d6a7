"""Variables that a cluster injects are told from mistyped keys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streaming.config import Config, ConfigError, load_config
from streaming.config.environment import foreign_names
from tests.streaming.config_parts import driftline

pytestmark = pytest.mark.usefixtures("no_environment")


INJECTED = {
    "DRIFTLINE_SERVICE_HOST": "10.0.0.1",
    "DRIFTLINE_SERVICE_PORT": "8000",
    "DRIFTLINE_SERVICE_PORT_HTTP": "8000",
    "DRIFTLINE_PORT": "tcp://10.0.0.1:8000",
    "DRIFTLINE_PORT_8000_TCP": "tcp://10.0.0.1:8000",
    "DRIFTLINE_PORT_8000_TCP_PROTO": "tcp",
    "DRIFTLINE_PORT_8000_TCP_PORT": "8000",
    "DRIFTLINE_PORT_8000_TCP_ADDR": "10.0.0.1",
    "DRIFTLINE_SCORER_SERVICE_HOST": "10.0.0.2",
    "DRIFTLINE_SCORER_SERVICE_PORT": "8000",
    "DRIFTLINE_SCORER_SERVICE_PORT_METRICS_V2": "8000",
    "DRIFTLINE_SCORER_PORT": "tcp://10.0.0.2:8000",
    "DRIFTLINE_SCORER_PORT_8000_TCP": "tcp://10.0.0.2:8000",
    "DRIFTLINE_KAFKA_PORT_9092_UDP_ADDR": "10.0.0.3",
    "DRIFTLINE_KAFKA__EU_SERVICE_HOST": "10.0.0.4",
}


def test_variables_injected_by_kubernetes_for_services_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in INJECTED.items():
        monkeypatch.setenv(name, value)
    assert load_config() == Config()
    assert foreign_names(os.environ, Config) == sorted(INJECTED)


@pytest.mark.slow
def test_a_command_logs_ignored_variables_at_debug_level(tmp_path: Path) -> None:
    done = driftline(
        ["--run-dir", str(tmp_path), "--bootstrap", "127.0.0.1:1", "setup"],
        DRIFTLINE_LOG_LEVEL="DEBUG",
        DRIFTLINE_KAFKA__STARTUP_WAIT_S="0.1",
        DRIFTLINE_PORT="tcp://10.0.0.1:8000",
    )
    assert "DRIFTLINE_PORT is a cluster's word for a service" in done.stderr


@pytest.mark.parametrize("name", ["SCORER_PORT", "METRICS_PORT", "INGEST_METRICS_PORT", "KAFKA_BOOTSTRAP", "HOST"])
def test_a_misspelled_key_is_not_taken_for_a_kubernetes_service(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"DRIFTLINE_{name}", "8000")
    with pytest.raises(ConfigError, match=f"DRIFTLINE_{name} is no key of Driftline"):
        load_config()

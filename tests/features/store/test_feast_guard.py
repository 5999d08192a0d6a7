"""Feast is imported without its side effects, and what it imports late works once it is used."""

from __future__ import annotations

import os
import subprocess
import sys
from inspect import getsourcefile
from pathlib import Path

import pytest

from features.store.feast_guard import import_feast


@pytest.mark.slow
def test_importing_feast_leaves_warning_filters_and_the_metrics_of_this_and_of_child_processes_alone() -> None:
    code = (
        "import warnings\nbefore = list(warnings.filters)\n"
        "from features.store.feast_guard import import_feast\nimport_feast('feast.feature_view')\n"
        "print(warnings.filters == before)\n"
        "import os, prometheus_client as p\nfrom feast import metrics\n"
        "print(type(p.Gauge('g', 'h')._value).__name__, sorted(k for k in os.environ if 'PROMETHEUS' in k))"
    )
    clean = {name: value for name, value in os.environ.items() if "PROMETHEUS" not in name}
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean)
    assert output.stdout.split() == ["True", "MutexValue", "[]"]


@pytest.mark.parametrize("server", ["feature_server", "ui_server"])
def test_a_server_of_feast_is_its_own_once_it_is_used(server: str) -> None:
    own = Path(import_feast().__file__).with_name(f"{server}.py")
    assert getsourcefile(getattr(import_feast("feast.feature_store"), server).start_server) == str(own)


def test_feast_opens_a_registry_in_an_sql_database(tmp_path: Path) -> None:
    feast = import_feast()
    registry = {"registry_type": "sql", "path": f"sqlite:///{tmp_path}/registry.db"}
    config = feast.RepoConfig(
        project="shop",
        provider="local",
        registry=registry,
        online_store={"type": "sqlite", "path": f"{tmp_path}/online.db"},
        entity_key_serialization_version=3,
    )
    store = feast.FeatureStore(config=config)
    store.apply([feast.Entity(name="user", join_keys=["user_id"], value_type=feast.ValueType.STRING)])
    assert [entity.name for entity in store.list_entities()] == ["user"]

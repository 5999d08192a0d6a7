"""Private names of libraries that the code uses where there is no public way.

An update of a library may rename them. These tests then name the file to change, before a process fails in production.
"""

from __future__ import annotations

import inspect
from operator import attrgetter
from typing import Any

import aiokafka
import kafka
import kafka.consumer.fetcher
import pytest
import torch
from faust.transport.drivers.aiokafka import Consumer
from kafka.cluster import ClusterMetadata
from prometheus_client.metrics import MetricWrapperBase

from features.store.feast_guard import import_feast


@pytest.mark.parametrize(
    ("owner", "name", "used_in"),
    [
        (Consumer, "_wait_next_records", "streaming/processor/fetches.py"),
        (Consumer, "_commit", "streaming/processor/fetches.py"),
        (kafka.KafkaConsumer, "_cluster", "streaming/ingest/reader.py"),
        (ClusterMetadata, "topic_id", "streaming/ingest/reader.py"),
        (kafka.KafkaConsumer, "_fetcher", "streaming/ingest/reader.py"),
        (kafka.consumer.fetcher.Fetcher, "PartitionRecords", "streaming/ingest/reader.py"),
        (aiokafka.AIOKafkaProducer, "_sender", "streaming/scorer/producer.py"),
        (MetricWrapperBase, "_name", "streaming/monitoring/catalogue.py"),
        (MetricWrapperBase, "_labelnames", "streaming/monitoring/catalogue.py"),
        (MetricWrapperBase, "_documentation", "streaming/monitoring/catalogue.py"),
        (torch.nn.Module, "_non_persistent_buffers_set", "model/backbone/state.py"),
        (torch.nn.Module, "_buffers", "model/backbone/state.py"),
    ],
)
def test_a_class_still_has_the_private_name_that_is_used(owner: Any, name: str, used_in: str) -> None:
    found = hasattr(owner, name) or f"self.{name}" in inspect.getsource(owner)
    assert found, f"{owner.__name__} has no {name} any more, which {used_in} uses"


@pytest.mark.parametrize(
    ("module", "name", "used_in"),
    [
        ("sqlite", "_quote_id", "features/store/wal_sqlite.py"),
        ("sqlite", "_table_id", "features/store/wal_sqlite.py"),
        ("redis", "_versioned_fv_name", "features/store/redis_delete.py"),
        ("redis", "RedisOnlineStore._get_client", "features/store/redis_delete.py and features/store/online.py"),
        ("helpers", "_redis_key", "features/store/redis_delete.py"),
        ("helpers", "_mmh3", "features/store/redis_delete.py"),
    ],
)
def test_a_store_of_feast_still_has_the_private_function_that_is_used(module: str, name: str, used_in: str) -> None:
    try:
        found = attrgetter(name)(import_feast(f"feast.infra.online_stores.{module}"))
    except AttributeError:
        found = None
    assert callable(found), f"{used_in} calls it"

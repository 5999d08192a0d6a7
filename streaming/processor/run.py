"""The processor as a process: it waits for broker, store and backbone, then runs the worker."""

from __future__ import annotations

import logging
import sys

import mode.loop
import torch

from features.store.feature_store import FeatureStore
from streaming.backbone import open_backbone
from streaming.clients import wait_for_broker
from streaming.config import Config
from streaming.group.assembly import first_rows
from streaming.monitoring.supervisor import TaskSupervisor
from streaming.processor.app import Processor
from streaming.processor.worker import run_until_stopped
from streaming.topics import ensure_topics

log = logging.getLogger(__name__)
_SWITCH_S = 0.0005
"""Seconds per thread switch. With Python's 5 ms the learner would wait that long after each tensor operation."""


def run_processor(config: Config) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code. Raises the named errors of broker, backbone and store."""
    supervisor = TaskSupervisor()
    sys.setswitchinterval(_SWITCH_S)
    torch.set_num_threads(1)  # results must not depend on the machine's number of cores
    if sys.platform != "win32":
        mode.loop.use("uvloop")
    wait_for_broker(config.kafka, log)
    ensure_topics(config)
    store = FeatureStore(config.features, config.run_dir)
    store.apply()
    opened = open_backbone(config)
    for group in config.groups:  # any group may be assigned, and a fault is better found now than then
        first_rows(config, opened, group.name)
    processor = Processor(config, opened, store, supervisor)
    return run_until_stopped(config, processor, supervisor)

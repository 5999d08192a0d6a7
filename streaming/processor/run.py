"""The processor as a process: broker, store and backbone first, then the worker."""

from __future__ import annotations

import logging
import sys

import mode.loop
import torch

from features.store.feature_store import FeatureStore
from streaming.backbone import open_backbone
from streaming.clients import wait_for_broker
from streaming.config import Config
from streaming.monitoring.watch import Watch
from streaming.processor.app import Processor
from streaming.processor.owned_group import first_rows
from streaming.processor.worker import run_until_stopped
from streaming.topics import ensure_topics

log = logging.getLogger(__name__)
_SWITCH_S = 0.0005
"""Python's own 5 ms is how long the learner would wait for the interpreter after each tensor operation."""


def run_processor(config: Config) -> int:
    """Processes until SIGTERM or SIGINT; the exit code. Raises the named errors of broker, backbone and store."""
    watch = Watch()
    sys.setswitchinterval(_SWITCH_S)
    torch.set_num_threads(1)  # what a learner begins with must not hang on how many cores the machine has
    if sys.platform != "win32":
        mode.loop.use("uvloop")
    wait_for_broker(config.kafka, log)
    ensure_topics(config)
    store = FeatureStore(config.features, config.run_dir)
    store.apply()
    opened = open_backbone(config)
    for group in config.groups:  # whichever will be owned: it is better met now than at an assignment
        first_rows(config, opened, group.name)
    processor = Processor(config, opened, store.push_live, watch)
    return run_until_stopped(config, processor, watch)

"""A processor process on the tiny backbone, to be killed.

It is forked from a server that has imported all of this: a test starts many, and each would import for seconds.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from features.live.features import LiveRow
from model.encoding.features import FeatureEncoder
from model.kernel.compatibility import dependencies
from streaming.backbone import OpenedBackbone
from streaming.clients import wait_for_broker
from streaming.config import load_config
from streaming.monitoring.supervisor import TaskSupervisor
from streaming.processor.app import Processor
from streaming.processor.worker import run_until_stopped
from streaming.topics import ensure_topics
from tests.streaming.group.tiny import BACKBONE, LAYOUT, SPACE, START

OPENED = OpenedBackbone(
    BACKBONE,
    FeatureEncoder.fit([], [], user_fields=(), item_fields=(), text_width=4),
    START,
    LAYOUT,
    None,
    dependencies(START, SPACE.sizes),
)


STORE_AWAY = Path("the-store-is-away")
"""While a file of this name lies in the working folder, pushes fail."""


class NoStore:
    """Keeps nothing: these tests have no feature store."""

    def push_live(self, rows: Sequence[LiveRow], scope: str) -> None:
        if STORE_AWAY.exists():
            raise ConnectionError("the store is away")

    def holds_live(self, scope: str) -> bool:
        return True


def start(file: Path, environment: Mapping[str, str], working: Path, output: Path) -> BaseProcess:
    """A process of its own with a configuration file, an environment and a working folder; it writes to `output`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_serve, args=(file, dict(environment), working, output))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # of the server: a fork has none of its threads
        process.start()
    return process


def _serve(file: Path, environment: dict[str, str], working: Path, output: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(working)
    tempfile.tempdir = None
    with output.open("wb") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
    torch.set_num_threads(1)
    sys.exit(main(file))


def main(file: Path) -> int:
    """What `driftline process` does, on a backbone and a store of the test's own."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    config = load_config(file)
    wait_for_broker(config.kafka, logging.getLogger("tiny"))
    ensure_topics(config)
    supervisor = TaskSupervisor()
    return run_until_stopped(config, Processor(config, OPENED, NoStore(), supervisor), supervisor)

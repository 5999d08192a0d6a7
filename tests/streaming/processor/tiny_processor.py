"""A processor process on the tiny backbone, to be killed: run this module with a configuration file."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from features.live.features import LiveRow
from model.encoding.features import FeatureEncoder
from model.kernel.compatibility import dependencies
from streaming.backbone import OpenedBackbone
from streaming.clients import wait_for_broker
from streaming.config import load_config
from streaming.monitoring.watch import Watch
from streaming.processor.app import Processor
from streaming.processor.worker import run_until_stopped
from streaming.topics import ensure_topics
from tests.streaming.processor.tiny import BACKBONE, LAYOUT, SPACE, START

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


def nowhere(rows: Sequence[LiveRow], scope: str) -> None:
    """No feature store stands behind these tests."""
    if STORE_AWAY.exists():
        raise ConnectionError("the store is away")


def main() -> int:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    config = load_config(Path(sys.argv[1]))
    wait_for_broker(config.kafka, logging.getLogger("tiny"))
    ensure_topics(config)
    watch = Watch()
    return run_until_stopped(config, Processor(config, OPENED, nowhere, watch), watch)


if __name__ == "__main__":
    sys.exit(main())

"""What the tests of a running ingest share."""

from __future__ import annotations

import pytest

from streaming.config import Config, JoinConfig


@pytest.fixture
def config(stream_config: Config) -> Config:
    """Short windows, and marks five times a second."""
    ingest = stream_config.ingest.model_copy(update={"idle_tick_s": 0.2})
    return stream_config.model_copy(update={"ingest": ingest, "join": JoinConfig(window_s=0.2, lateness_s=0.1)})

"""What the tests of running processors share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from features.live.first_rows import write_first_rows
from local.demo.settings import free_ports
from streaming.config import Config, GroupConfig, JoinConfig
from streaming.topics import ensure_topics
from tests.streaming.group.tiny import (
    FIRST_ROWS,
    GATE,
    JOIN,
    LEARNER,
    LIVE,
)
from tests.streaming.processor.running_processor import GROUPS, Workers, kill


@pytest.fixture
def config(stream_config: Config, tmp_path: Path) -> Config:
    """Two kernel groups, learned as in the tiny machine, from the same first rows."""
    (port,) = free_ports(1)
    processor = stream_config.processor.model_copy(
        update={"commit_interval_s": 0.1, "snapshot_interval_s": 0.2, "session_timeout_s": 6.0, "metrics_port": port}
    )
    changed = stream_config.model_copy(
        update={
            "groups": tuple(GroupConfig(name=name) for name in GROUPS),
            "domains": stream_config.domains.model_copy(update={"period": ("day", "night")}),
            "live": LIVE,
            "backbone_path": tmp_path / "backbone",
            "learner": LEARNER,
            "gate": GATE,
            "join": JoinConfig(**JOIN.model_dump()),
            "processor": processor,
        }
    )
    changed.backbone_dir.mkdir()
    for name in GROUPS:
        write_first_rows(changed.backbone_dir, name, changed.domains_of(name), FIRST_ROWS)
    ensure_topics(changed)
    return changed


@pytest.fixture
def workers(config: Config, tmp_path: Path) -> Iterator[Workers]:
    """Starts processors; what is left of them at the end is killed."""
    started = Workers(config, tmp_path)
    yield started
    for process in started.alive:
        kill(process)

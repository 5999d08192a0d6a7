"""The configuration of the demo, and what its processes are given of it."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import ExitStack
from pathlib import Path

from lab.streams import Catalogue
from lab.streams.fit import fitted
from model.whole_files import write_whole
from streaming.config import ENV_FILE, ENV_PREFIX, Config, TopicConfig
from streaming.config_docs import as_toml

CONFIG_FILE = "driftline.toml"
CLICK_WINDOW_S = 0.4
"""The replay's clicks come within 0.15 s, but for delays that a script adds; the rest of the window is for their way
through ingest."""
LATENESS_S = 0.1
CONVERSION_WINDOW_S = 2.0
"""Seconds. Hours of a script are tenths of a second when played, and conversions are learned after their window."""
HALF_LIVES_S = (2.0, 120.0)
"""Months are played in less than a minute: half-lives of minutes and hours shrink to seconds."""
COMMIT_S = 0.25
IDLE_TICK_S = 2.0
"""Seconds, longer than a busy machine holds up the scorer in the middle of the stream."""
_HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Different free ports of this machine."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for socket_ in sockets:
            socket_.bind((_HOST, 0))
        return [int(socket_.getsockname()[1]) for socket_ in sockets]


def demo_config(base: Config, catalogue: Catalogue, *, run_dir: Path, bootstrap: str, own_topics: bool) -> Config:
    """`base` with everything that the demo decides: fields, domains and times of the stream, folders and free ports.

    With `own_topics`, topics and consumer groups have names for this run alone, for a cluster that others use too.
    Raises StreamError if a domain of the stream belongs to no kernel group.
    """
    base = fitted(base, catalogue)
    scorer_port, scorer_metrics, ingest_port, processor_port = free_ports(4)
    prefix = f"driftline-demo-{int(time.time())}-" if own_topics else ""
    topics = {key: prefix + name for key, name in TopicConfig().names().items()} if prefix else {}
    sections = {
        "kafka": {"bootstrap": bootstrap},
        "topics": topics,
        "live": {"half_lives_s": HALF_LIVES_S},
        "join": {"window_s": CLICK_WINDOW_S, "lateness_s": LATENESS_S, **_conversion_window(base)},
        "ingest": {"metrics_port": ingest_port, "idle_tick_s": IDLE_TICK_S, "group_id": prefix + base.ingest.group_id},
        "processor": {
            "metrics_port": processor_port,
            "app_id": prefix + base.processor.app_id,
            "commit_interval_s": COMMIT_S,
        },
        "access": {"keys": ()},  # nobody but this machine reaches it, and its own requests carry none
        "scorer": {"host": _HOST, "port": scorer_port, "metrics_port": scorer_metrics},
    }
    changed = {name: getattr(base, name).model_copy(update=values) for name, values in sections.items()}
    folders = {"run_dir": run_dir.absolute(), "cache_dir": base.cache_dir.absolute(), "backbone_path": None}
    return base.model_copy(update=changed | folders)


def _conversion_window(base: Config) -> dict[str, float]:
    """A stream that is over in a minute would end before the first of its clicks had taught its conversion."""
    if base.backbone.tasks == "ctr":
        return {}
    return {"horizon_s": CONVERSION_WINDOW_S, "conversion_window_s": CONVERSION_WINDOW_S}


def write_config(config: Config) -> Path:
    """Writes the configuration into the run's folder, as every process of the demo reads it."""
    path = config.run_dir / CONFIG_FILE
    write_whole(path, as_toml(config) + "\n")
    return path


def child_environment(config: Config, path: Path) -> dict[str, str]:
    """The environment of a child: the file decides alone, and secrets, which no file holds, come beside it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    kept |= {ENV_FILE: str(path), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    if config.features.redis_password is not None:
        kept[f"{ENV_PREFIX}FEATURES__REDIS_PASSWORD"] = config.features.redis_password.get_secret_value()
    if config.kafka.sasl_password is not None:
        kept[f"{ENV_PREFIX}KAFKA__SASL_PASSWORD"] = config.kafka.sasl_password.get_secret_value()
    if config.access.request_id_secrets:
        secrets = [secret.get_secret_value() for secret in config.access.request_id_secrets]
        kept[f"{ENV_PREFIX}ACCESS__REQUEST_ID_SECRETS"] = json.dumps(secrets)
    return kept

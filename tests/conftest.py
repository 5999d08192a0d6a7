"""The real parts that tests share. Imports stay inside the fixtures: collecting a unit test loads no client."""

from __future__ import annotations

import logging
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

# No test asserts a time, not even by hypothesis' own limit of 200 ms per example: a first call of torch takes longer.
settings.register_profile("driftline", deadline=None)
settings.load_profile("driftline")

# Before torch is imported: small tensors on two threads are far slower, on a busy machine by a factor of ten.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# As every process does: a client of an earlier test whose broker is gone would write into what a later test reads.
logging.getLogger("kafka").setLevel(logging.CRITICAL)
# A shell starts what it runs in the background with SIGINT ignored, and children inherit it: tests that interrupt a
# process would wait for nothing.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if TYPE_CHECKING:
    from xdist.scheduler import LoadFileScheduling

    from features.text import TextEncoder
    from lab.streams.logged.movielens import MovieLens
    from local.broker import LocalBroker
    from local.watchdog import Watchdog
    from streaming.config import Config, KafkaConfig, TopicConfig


WHOLE_RUNS = ("e2e", "chaos")
"""Folders whose files take minutes. They go first: begun last, one of them would keep a single test process busy."""
ONE_STACK = ("tests/chaos/",)
"""Folders whose files share a fixture of many processes: in several test processes each would start its own."""
OWN_STACK = ("tests/chaos/test_conversion_kills.py",)
"""Files of these folders that do not use that fixture: another test process runs them meanwhile."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test that needs the broker, so that `-m "not broker"` leaves them out; puts whole runs first."""
    for item in items:
        if "broker" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.broker)
    items.sort(key=lambda item: not set(WHOLE_RUNS) & set(item.path.parts))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling | None:
    """With `--dist loadfile`: what shares fixtures stays in one test process, a file or a folder of `ONE_STACK`."""
    from xdist.scheduler import LoadFileScheduling

    if config.getvalue("dist") != "loadfile":
        return None

    class LoadFileOrStack(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return file if file in OWN_STACK else next((one for one in ONE_STACK if file.startswith(one)), file)

    return LoadFileOrStack(config, log)


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """The user's own cache: what is fetched once is fetched once for the tests too."""
    from streaming.config import load_config

    return load_config().cache_dir


@pytest.fixture(scope="session")
def text_encoder(cache_dir: Path) -> TextEncoder:
    """The default model with the user's own cache."""
    from features.text import TextEncoder

    return TextEncoder(cache_dir=cache_dir)


@pytest.fixture(scope="session")
def movielens(cache_dir: Path) -> MovieLens:
    """The real data set, fetched if the cache lacks it."""
    from lab.streams.logged.movielens import fetch, load

    return load(fetch(cache_dir))


@pytest.fixture(scope="session")
def watchdog() -> Iterator[Watchdog]:
    """Ends what a test session starts when the session is killed."""
    from local.watchdog import Watchdog

    with Watchdog() as watching:
        yield watching


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path, watchdog: Watchdog) -> Iterator[LocalBroker]:
    """One real Kafka for the whole session; it ends with the session, however that ends."""
    from local.broker import LocalBroker
    from streaming.clients import quiet_client_logs

    quiet_client_logs()
    kafka = LocalBroker(tmp_path_factory.mktemp("kafka"), cache_dir, watchdog=watchdog)
    kafka.start()
    try:
        yield kafka
    finally:
        if kafka.running():
            kafka.stop()


@pytest.fixture(scope="session")
def kafka_config(broker: LocalBroker) -> KafkaConfig:
    """How to reach the session's broker."""
    from streaming.config import KafkaConfig

    return KafkaConfig(bootstrap=broker.address)


@pytest.fixture
def unique_topics() -> TopicConfig:
    """Topic names of this test alone."""
    from streaming.config import TopicConfig

    prefix = f"t{uuid.uuid4().hex[:10]}-"
    return TopicConfig(**{key: prefix + name for key, name in TopicConfig().names().items()})


@pytest.fixture
def stream_config(tmp_path: Path, kafka_config: KafkaConfig, unique_topics: TopicConfig) -> Config:
    """A configuration on the session's broker: own topics, own consumer groups, own run folder, free ports."""
    from streaming.config import Config, IngestConfig, ProcessorConfig, ScorerConfig

    own = unique_topics.interactions.split("-")[0]
    return Config(
        run_dir=tmp_path / "run",
        kafka=kafka_config,
        topics=unique_topics,
        ingest=IngestConfig(group_id=f"{own}-ingest", metrics_port=0),
        processor=ProcessorConfig(app_id=f"{own}-processor", metrics_port=0),
        scorer=ScorerConfig(port=0, metrics_port=0),
    )

"""The whole system on this machine: a broker of its own and every process as an operator starts it, to be broken."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from local.broker import LocalBroker
from local.broker.settings import Node
from local.demo.settings import child_environment, free_ports
from local.probe import Scraped, get, scrape
from local.watchdog import Watchdog
from model.whole_files import write_whole
from streaming.config import Config
from streaming.config_docs import as_toml
from streaming.topics import ensure_topics
from tests.chaos.driver import Driver
from tests.chaos.small_backbone import save_small_backbone
from tests.redis_server import redis_process

ROOT = Path(__file__).resolve().parents[2]
READY_S = 240.0
"""A clean start takes ten seconds; the rest is for a busy machine and a broker that was killed."""
ROLES = {"ingest": "ingest", "processor": "process", "scorer": "serve"}
"""The command of each role."""


@dataclass
class Member:
    """One process of ours, whichever of its starts is alive."""

    name: str
    """Role, a dash and a number: `scorer-1`."""
    config: Config
    """With the ports of this member."""
    process: subprocess.Popen[bytes] | None = None
    prefix: Sequence[str] = ()
    """What runs the command, for example with another clock."""
    starts: int = field(default=0)

    @property
    def role(self) -> str:
        """Its role."""
        return self.name.partition("-")[0]

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def port(self) -> int:
        """Port of its /metrics."""
        config = self.config
        return {
            "ingest": config.ingest.metrics_port,
            "processor": config.processor.metrics_port,
            "scorer": config.scorer.metrics_port,
        }[self.role]

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.config.scorer.port if self.role == 'scorer' else self.port}"

    @property
    def ready(self) -> bool:
        """Whether its readiness endpoint reports that it works."""
        try:
            get(f"http://127.0.0.1:{self.port}/{'readyz' if self.role == 'scorer' else 'healthz'}")
        except OSError:
            return False
        return self.alive

    @property
    def log(self) -> Path:
        """Where all of its starts write."""
        return self.config.run_dir / f"{self.name}.log"

    def memory(self) -> int:
        """Resident bytes."""
        assert self.process is not None
        return int(psutil.Process(self.process.pid).memory_info().rss)


class Stack:
    """Broker and processes of one proof. Whatever is left at the end is killed."""

    def __init__(
        self, config: Config, brokers: Sequence[LocalBroker], watchdog: Watchdog, store: subprocess.Popen[bytes]
    ) -> None:
        self.config = config
        self.brokers = brokers
        self.store = store
        """The Redis server."""
        self._watchdog = watchdog
        self.members: dict[str, Member] = {}
        self.drivers: list[Driver] = []

    @property
    def broker(self) -> LocalBroker:
        """The first of the brokers, mostly the only one."""
        return self.brokers[0]

    def add(self, role: str, prefix: Sequence[str] = ()) -> Member:
        """Starts one more process of a role."""
        number = 1 + sum(member.role == role for member in self.members.values())
        member = Member(f"{role}-{number}", self._on_free_ports(role), prefix=prefix)
        self.members[member.name] = member
        self.start(member.name)
        return member

    def start(self, name: str) -> None:
        """Starts a member, for the first time or again."""
        member = self.members[name]
        path = self.config.run_dir / f"{name}.toml"
        write_whole(path, as_toml(member.config) + "\n")
        driftline = str(Path(sys.executable).with_name("driftline"))
        member.starts += 1
        with member.log.open("ab") as out:
            member.process = subprocess.Popen(
                [*member.prefix, driftline, ROLES[member.role]],
                cwd=ROOT,
                env=child_environment(member.config, path),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._watchdog.add(member.process.pid)

    def kill(self, name: str) -> None:
        """SIGKILL, as a lost machine would."""
        self.end(name, signal.SIGKILL)

    def end(self, name: str, number: int = signal.SIGTERM) -> int:
        """Signals a member and waits for its end; its exit code."""
        process = self.members[name].process
        assert process is not None
        process.send_signal(number)
        code = process.wait(60)
        self._watchdog.remove(process.pid)
        return code

    def drive(self, seed: int, **options: Any) -> Driver:
        """Users of all scorers that run; `options` are the driver's. It waits until the first of them are answered."""
        driver = Driver(self.config, lambda: [member.url for member in self.of("scorer")], seed=seed, **options)
        self.drivers.append(driver)
        driver.start()
        self.answered(driver, 20)
        return driver

    def answered(self, driver: Driver, more: int) -> None:
        """Waits until so many more requests are answered."""
        wanted = driver.truth.requests + more
        self.wait_until(lambda: driver.truth.requests >= wanted, f"{more} more requests are answered")

    def leave(self) -> None:
        """Ends the users of a proof, also of one that failed."""
        for driver in self.drivers:
            driver.abandon()
        self.drivers.clear()

    def mend(self) -> None:
        """Starts again what has ended, and waits until everything is ready."""
        self.store.send_signal(signal.SIGCONT)
        for broker in self.brokers:
            if not broker.running():
                broker.start()
        for member in self.members.values():
            if not member.alive:
                self.start(member.name)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Waits until every started member is ready; fails with the log of one that ends by itself."""
        waited = [member for member in self.members.values() if member.process is not None]
        self.wait_until(lambda: all(member.ready for member in waited), "every process is ready", waited)

    def supervise(self) -> list[str]:
        """Waits until every member is ready. One that ends by itself is started again, once; the names of those.

        A processor whose transaction fails ends: whoever started it is to start it again (docs/failures.md).
        """
        ended: list[str] = []

        def ready() -> bool:
            for member in self.members.values():
                if not member.alive and member.name not in ended:
                    ended.append(member.name)
                    self.start(member.name)
            return all(member.ready for member in self.members.values())

        self.wait_until(ready, "every process is ready")
        return ended

    def wait_until(
        self, done: Callable[[], bool], what: str, alive: Sequence[Member] = (), seconds: float = READY_S
    ) -> None:
        """Waits until `done`; fails with all logs when a member of `alive` ends or the time is over."""
        end = time.monotonic() + seconds
        while not done():
            dead = [member.name for member in alive if not member.alive]
            assert not dead, f"waiting until {what}: {dead} ended\n{self.logs()}"
            assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s\n{self.logs()}"
            time.sleep(0.1)

    def of(self, role: str) -> list[Member]:
        """The running members of a role."""
        return [member for member in self.members.values() if member.role == role and member.alive]

    def lives(self) -> dict[str, int]:
        """How often each member was started, -1 for one that does not live: the same before and after if none ended."""
        return {member.name: member.starts if member.alive else -1 for member in self.members.values()}

    def metrics(self, name: str) -> Scraped:
        """The metrics of a member. Raises OSError."""
        return scrape(self.members[name].port)

    def logs(self, lines: int = 25) -> str:
        """The end of every log."""
        return "\n".join(
            f"--- {member.name}\n" + "\n".join(member.log.read_text(errors="replace").splitlines()[-lines:])
            for member in self.members.values()
        )

    def close(self) -> None:
        """Ends users and every process of ours."""
        self.leave()
        for member in self.members.values():
            if member.process is not None:
                member.process.kill()
                member.process.wait()
                self._watchdog.remove(member.process.pid)

    def _on_free_ports(self, role: str) -> Config:
        section = getattr(self.config, role)
        port, metrics_port = free_ports(2)
        ports = {"port": port} if role == "scorer" else {}
        return self.config.model_copy(update={role: section.model_copy(update={**ports, "metrics_port": metrics_port})})


def small_config(folder: Path, addresses: Sequence[str], redis: str) -> Config:
    """Short times, small batches, two periods: what needs hours in production happens in seconds."""
    base = Config()
    sections: dict[str, dict[str, object]] = {
        "kafka": {"bootstrap": ",".join(addresses), "replication_factor": len(addresses)},
        "features": {"online_store": "redis", "redis": redis},
        "domains": {"scene": ("home",), "region": (), "period": ("day", "night")},
        "live": {"half_lives_s": (2.0, 120.0)},
        "learner": {"batch_examples": 64, "publish_seconds": 0.5},
        # An ingest that starts again on a busy machine may take longer than the default's minute.
        "join": {"window_s": 2.0, "lateness_s": 0.3, "progress_timeout_s": 600.0},
        "ingest": {"idle_tick_s": 0.5},
        "processor": {"commit_interval_s": 0.2, "snapshot_interval_s": 1.0, "session_timeout_s": 6.0},
        "scorer": {"warmup_requests": 2},
    }
    changed = {name: getattr(base, name).model_copy(update=values) for name, values in sections.items()}
    return base.model_copy(update={**changed, "run_dir": folder, "cache_dir": base.cache_dir})


@contextmanager
def made_stack(folder: Path, watchdog: Watchdog, *, nodes: int = 1, **sections: object) -> Iterator[Stack]:
    """Brokers, Redis, topics and a backbone; no process of ours yet. `sections` replace those of `small_config`."""
    folder.mkdir(parents=True, exist_ok=True)
    brokers = [
        LocalBroker(folder / f"broker-{node.number}", Config().cache_dir, watchdog=watchdog, node=node)
        for node in nodes_of(nodes)
    ]
    with redis_process(folder) as (redis, store):
        watchdog.add(store.pid)
        try:
            # All at once: of several nodes one answers only when most of them are there.
            with ThreadPoolExecutor(nodes) as pool:
                addresses = list(pool.map(LocalBroker.start, brokers))
            config = small_config(folder, addresses, redis).model_copy(update=sections)
            save_small_backbone(config)
            ensure_topics(config)
            stack = Stack(config, brokers, watchdog, store)
            try:
                yield stack
            finally:
                stack.close()
        finally:
            for broker in brokers:
                if broker.running():
                    broker.kill()
            watchdog.remove(store.pid)


def nodes_of(count: int) -> list[Node]:
    """The nodes of one cluster on this machine."""
    ports = tuple(free_ports(count)) if count > 1 else ()
    return [Node(number, ports) for number in range(1, count + 1)]

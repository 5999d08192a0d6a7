"""One Kafka node as a child process: start, stop, kill, find again."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
from rich.console import Console
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from local.broker import settings
from local.broker.errors import (
    AlreadyRunning,
    BrokerError,
    CacheUnwritable,
    NoRoom,
    NotRunning,
    PortTaken,
    StaleState,
    StartFailed,
)
from local.broker.jars import class_path, jar_list
from local.broker.java import Java, find_java
from local.broker.state import MAIN_CLASS, STATE_FILE, BrokerState, clear_state, read_state, write_state
from local.watchdog import Watchdog

log = logging.getLogger(__name__)

START_WAIT_S = 60.0
"""A clean start takes about 2 s, one after a kill up to 12 s; the rest is for a busy machine."""
STOP_WAIT_S = 20.0
LOG_FILE = "broker.log"
KEEP_LOG_BYTES = 10 * 1024 * 1024
FREE_PORT_TRIES = 3
LEAST_FREE_BYTES = 32 * 1024 * 1024
"""A broker answers on a disk with no room for a topic, and ends with the first records that do not fit."""


class LocalBroker:
    """Apache Kafka in KRaft mode, one node, on loopback, with its data in `data_dir`; `node` makes it one of several.

    `port` 0 takes a free port at the first start and keeps it for this object, so that clients find the broker again
    after a restart. With a `watchdog` the broker ends with the process that the watchdog watches, however that ends.
    """

    def __init__(
        self,
        data_dir: Path,
        cache_dir: Path,
        port: int = 0,
        *,
        node: settings.Node | None = None,
        watchdog: Watchdog | None = None,
        console: Console | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.cache_dir = cache_dir.absolute()
        self.port = port
        self.log_file = self.data_dir / LOG_FILE
        self._node = node or settings.Node()
        self._watchdog = watchdog
        self._console = console

    @property
    def address(self) -> str:
        """Bootstrap address, `host:port`. Raises NotRunning before the first start."""
        if not self.port:
            raise NotRunning(self.data_dir)
        return f"{settings.HOST}:{self.port}"

    def state(self) -> BrokerState | None:
        """The running broker on this data folder, whoever started it, or None. Raises BadState."""
        state = read_state(self.data_dir)
        return state if state is not None and state.process() is not None else None

    def running(self) -> bool:
        """Whether a broker works on this data folder."""
        return self.state() is not None

    def start(self) -> str:
        """Starts the broker, waits until it answers, and returns its bootstrap address.

        Raises AlreadyRunning, NoRoom, PortTaken, NoJava, BadHash, FetchFailed, CacheUnwritable or StartFailed; in every
        case, an interrupt included, no process is left behind.
        """
        java = find_java()
        jars = class_path(self.cache_dir, jar_list(), self._console)
        with self._locked():
            self._refuse_second()
            self._refuse_full()
            log.info("starting Kafka on %s with %s", self.data_dir, java)
            free_ports = Retrying(
                retry=retry_if_exception_type(PortTaken),
                stop=stop_after_attempt(1 if self.port else FREE_PORT_TRIES),
                reraise=True,
            )
            return free_ports(lambda: self._launch(java, jars, self.port or _free_port()))

    def stop(self) -> None:
        """Asks the broker to end and waits for it; after `STOP_WAIT_S` it is killed.

        Raises NotRunning, or StaleState if the state file names another program's process, which is left alone.
        """
        process = self._process()
        process.terminate()
        if not _ended(process):
            log.warning("the broker did not end within %.0f s; killing it, nothing acknowledged is lost", STOP_WAIT_S)
            process.kill()
            _ended(process)
        self._unwatch(process.pid)
        clear_state(self.data_dir)

    def kill(self) -> None:
        """SIGKILL, as a crash would. Raises NotRunning or StaleState."""
        process = self._process()
        process.kill()
        _ended(process)
        self._unwatch(process.pid)

    def tail(self, lines: int = 20) -> str:
        """The last lines of the broker's log; empty if it has none."""
        try:
            return "\n".join(self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""

    def _process(self) -> psutil.Process:
        state = read_state(self.data_dir)
        if state is None:
            raise NotRunning(self.data_dir)
        process = state.process()
        if process is None:
            raise StaleState(self.data_dir / STATE_FILE, state.pid)
        return process

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Allows one start at a time on a data folder."""
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            with (self.data_dir / "start.lock").open("w", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except OSError as error:
            if isinstance(error, BrokerError):
                raise
            raise CacheUnwritable(self.data_dir, error) from error

    def _refuse_second(self) -> None:
        old = read_state(self.data_dir)
        if old is None:
            return
        if old.process() is not None:
            raise AlreadyRunning(self.data_dir, old.pid, old.address)
        log.info(
            "the last broker on %s (process %d) did not end in order; going on with its data", self.data_dir, old.pid
        )
        self._unwatch(old.pid)
        clear_state(self.data_dir)

    def _refuse_full(self) -> None:
        free = shutil.disk_usage(self.data_dir).free
        if free < LEAST_FREE_BYTES:
            raise NoRoom(self.data_dir, free, LEAST_FREE_BYTES)

    def _unwatch(self, pid: int) -> None:
        """Another program may get the number of a process that has ended."""
        if self._watchdog is not None:
            self._watchdog.remove(pid)

    def _launch(self, java: Java, jars: list[Path], port: int) -> str:
        if not _free(port):
            raise PortTaken(port)
        self._rotate_log()
        self._write_settings(port, jars[0].parent)
        # Every path is relative to the working directory, so that no character of a folder's name has a meaning to Java
        # (docs/decisions/0011).
        class_path = os.pathsep.join(f"{settings.JAR_DIR}/{jar.name}" for jar in jars)
        command = [str(java.path.absolute()), *settings.JAVA_OPTIONS, "-cp", class_path]
        if not (self.data_dir / settings.LOG_DIR / "meta.properties").exists():
            self._format(command)
        process = self._spawn([*command, MAIN_CLASS, settings.SERVER_FILE])
        try:
            created = psutil.Process(process.pid).create_time()
            address = f"{settings.HOST}:{port}"
            write_state(self.data_dir, BrokerState(process.pid, created, port, address, str(self.log_file), str(java)))
            self._wait_until_it_answers(process, port)
        except BaseException:
            process.kill()
            process.wait()
            self._unwatch(process.pid)
            clear_state(self.data_dir)
            raise
        self.port = port
        return address

    def _write_settings(self, port: int, jars: Path) -> None:
        properties = settings.render(settings.server_properties(port, _free_port(), self._node))
        (self.data_dir / settings.SERVER_FILE).write_text(properties, encoding="ascii")
        (self.data_dir / settings.LOGGING_FILE).write_text(settings.LOGGING, encoding="ascii")
        link = self.data_dir / settings.JAR_DIR
        link.unlink(missing_ok=True)
        link.symlink_to(jars)

    def _format(self, command: list[str]) -> None:
        cluster = self._node.cluster_id or settings.as_cluster_id(uuid.uuid4().bytes)
        tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "--cluster-id", cluster]
        process = self._spawn([*command, *tool, "--config", settings.SERVER_FILE])
        try:
            code = process.wait()
        finally:
            process.kill()
            self._unwatch(process.pid)
        if code:
            raise StartFailed(f"formatting its storage ended with exit code {code}", self.log_file, self.tail())

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self.log_file.open("ab") as out:
            # A session of its own: Ctrl-C in the terminal reaches its starter, which stops it in order.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.data_dir,
                env={**os.environ, **settings.LOCALE},
                start_new_session=True,
            )
        if self._watchdog is not None:
            self._watchdog.add(process.pid)
        return process

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + START_WAIT_S
        while not _answers(port):
            if process.poll() is not None:
                end = self.tail(40)
                if "BindException" in end or "Address already in use" in end:
                    raise PortTaken(port)
                raise StartFailed(f"Kafka ended with exit code {process.returncode}", self.log_file, end)
            if time.monotonic() > deadline:
                raise StartFailed(f"no answer on port {port} within {START_WAIT_S:.0f} s", self.log_file, self.tail(40))
            time.sleep(0.05)

    def _rotate_log(self) -> None:
        if self.log_file.exists() and self.log_file.stat().st_size > KEEP_LOG_BYTES:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))


def _ended(process: psutil.Process) -> bool:
    """Whether the process ends within `STOP_WAIT_S`. One whose starter does not ask for its end stays as a zombie."""
    until = time.monotonic() + STOP_WAIT_S
    while time.monotonic() < until:
        with contextlib.suppress(psutil.TimeoutExpired):
            process.wait(0.05)
            return True
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
    return False


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((settings.HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def _free(port: int) -> bool:
    with socket.socket() as sock:
        # Connections of the last broker that are still winding down do not count.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((settings.HOST, port))
        except OSError:
            return False
        return True


def _answers(port: int) -> bool:
    with contextlib.closing(socket.socket()) as sock:
        sock.settimeout(1.0)
        return sock.connect_ex((settings.HOST, port)) == 0

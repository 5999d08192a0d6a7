"""The broker's life on this machine, on the real Kafka."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from local.broker import LocalBroker
from local.broker.command import app
from local.broker.errors import AlreadyRunning, BadState, NoRoom, NotRunning, PortTaken, StaleState, StartFailed
from local.broker.settings import render
from local.broker.state import BrokerState, clear_state, read_state, write_state
from local.watchdog import Watchdog
from streaming.clients import make_consumer, make_producer, quiet_client_logs
from streaming.config import KafkaConfig

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path, watchdog: Watchdog) -> Iterator[LocalBroker]:
    """A broker that the tests of this file may kill."""
    quiet_client_logs()
    broker = LocalBroker(tmp_path_factory.mktemp("own") / "broker", cache_dir, watchdog=watchdog)
    broker.start()
    yield broker
    if broker.running():
        broker.stop()


def test_acknowledged_records_survive_a_kill_and_a_restart_on_the_same_address(kafka: LocalBroker) -> None:
    from streaming.clients import make_admin

    address, config = kafka.address, KafkaConfig(bootstrap=kafka.address)
    with make_admin(config) as admin:
        admin.create_topics({"kept": {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    producer = make_producer(config)
    producer.send("kept", b"one").get(timeout=30)
    kafka.kill()
    assert not kafka.running()
    assert kafka.start() == address
    producer.send("kept", b"two").get(timeout=60)
    producer.close()
    consumer = make_consumer(config, "kept", consumer_timeout_ms=30_000)
    assert [next(consumer).value, next(consumer).value] == [b"one", b"two"]
    consumer.close()


def test_a_second_broker_on_the_same_data_is_refused_and_the_first_continues(kafka: LocalBroker) -> None:
    with pytest.raises(AlreadyRunning, match=r"process \d+, 127\.0\.0\.1:\d+"):
        LocalBroker(kafka.data_dir, kafka.cache_dir).start()
    assert kafka.running()


def test_the_command_line_finds_a_broker_that_another_process_started(kafka: LocalBroker) -> None:
    result = CliRunner().invoke(app, ["status", "--data", str(kafka.data_dir)])
    assert result.exit_code == 0 and kafka.address in result.output
    logs = CliRunner().invoke(app, ["logs", "--data", str(kafka.data_dir), "-n", "3"])
    assert logs.exit_code == 0 and len(logs.output.splitlines()) == 3
    second = CliRunner().invoke(app, ["start", "--data", str(kafka.data_dir)])
    assert second.exit_code == 1 and "AlreadyRunning" in second.output


def test_the_command_line_starts_and_stops_a_broker_on_the_port_it_is_given(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    data = ["--data", str(tmp_path / "data")]
    started = CliRunner().invoke(app, ["start", *data, "--port", str(port)])
    try:
        assert started.exit_code == 0, started.output
        assert f"DRIFTLINE_KAFKA__BOOTSTRAP=127.0.0.1:{port}" in started.output
        assert "Java" in started.output
    finally:
        stopped = CliRunner().invoke(app, ["stop", *data])
    assert stopped.exit_code == 0
    assert CliRunner().invoke(app, ["status", *data]).exit_code == 3
    assert not [p for p in psutil.process_iter(["cwd"]) if (p.info["cwd"] or "").startswith(str(tmp_path))]


def test_a_port_in_use_is_reported_and_no_process_remains(tmp_path: Path, cache_dir: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        broker = LocalBroker(tmp_path / "data", cache_dir, port)
        with pytest.raises(PortTaken, match=f"port {port} is taken"):
            broker.start()
    assert not broker.running() and read_state(broker.data_dir) is None


def test_a_disk_without_room_is_reported_before_the_broker_starts_on_it(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.broker.local.LEAST_FREE_BYTES", 2 * shutil.disk_usage(tmp_path).free)
    broker = LocalBroker(tmp_path / "broker", cache_dir)
    with pytest.raises(NoRoom, match=r"MB are free on the disk of \S+/broker; .* or choose another folder with --data"):
        broker.start()
    assert not broker.running()
    assert not broker.log_file.exists()


def test_a_failed_start_shows_the_end_of_the_log(tmp_path: Path, cache_dir: Path) -> None:
    storage = tmp_path / "data" / "log"
    storage.mkdir(parents=True)
    (storage / "meta.properties").write_text("version=1\ncluster.id=x\nnode.id=77\n")
    with pytest.raises(StartFailed, match=r"(?s)exit code \d+.*broker\.log:.*77"):
        LocalBroker(tmp_path / "data", cache_dir).start()


def test_stopping_without_a_running_broker_is_reported(tmp_path: Path, cache_dir: Path) -> None:
    with pytest.raises(NotRunning, match="driftline broker start"):
        LocalBroker(tmp_path, cache_dir).stop()
    assert CliRunner().invoke(app, ["stop", "--data", str(tmp_path)]).exit_code == 1


def test_a_process_that_reuses_the_pid_of_the_broker_is_not_stopped(tmp_path: Path, cache_dir: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        created = psutil.Process(other.pid).create_time()
        write_state(tmp_path, BrokerState(other.pid, created, 1, "127.0.0.1:1", "log", "java"))
        broker = LocalBroker(tmp_path, cache_dir)
        assert not broker.running()
        with pytest.raises(StaleState, match=f"process {other.pid}, which is not this broker"):
            broker.stop()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_state_file_of_an_ended_process_is_not_a_running_broker(kafka: LocalBroker, tmp_path: Path) -> None:
    state = kafka.state()
    assert state is not None
    write_state(tmp_path, BrokerState(state.pid, state.created - 100, state.port, state.address, "log", "java"))
    assert not LocalBroker(tmp_path, kafka.cache_dir).running()
    clear_state(tmp_path)


def test_a_truncated_state_file_is_reported_by_name(tmp_path: Path, cache_dir: Path) -> None:
    (tmp_path / "broker.json").write_text('{"pid":')
    with pytest.raises(BadState, match=r"broker\.json is no state file.*remove it"):
        LocalBroker(tmp_path, cache_dir).running()


def test_a_watched_broker_ends_when_its_parent_process_is_killed(tmp_path: Path, cache_dir: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from local.broker import LocalBroker\n"
        "from local.watchdog import Watchdog; watchdog = Watchdog()\n"
        "LocalBroker(Path(sys.argv[1]), Path(sys.argv[2]), watchdog=watchdog).start()\n"
        "print('up', flush=True); time.sleep(120)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(cache_dir)], stdout=subprocess.PIPE)
    assert starter.stdout is not None and starter.stdout.readline() == b"up\n"
    state = read_state(tmp_path)
    assert state is not None and state.process() is not None
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    starter.stdout.close()
    psutil.wait_procs([p] if (p := state.process()) else [], timeout=30)
    assert state.process() is None


def test_an_interrupt_during_the_start_leaves_no_process(tmp_path: Path, cache_dir: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from local.broker import LocalBroker\n"
        "LocalBroker(Path(sys.argv[1]), Path(sys.argv[2])).start()"
    )
    starter = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(cache_dir)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while (state := read_state(tmp_path)) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    starter.send_signal(signal.SIGINT)
    assert starter.wait(60) != 0
    assert state is not None and state.process() is None
    assert read_state(tmp_path) is None


STRANGE_NAME = "käfka 日本 ☃ a,b:c;d 100%=x q'uo\"te back\\slash\nnew line #!{}$*?[]~&"
"""All oddities in one, because each name starts a broker."""


def test_a_data_folder_of_any_name_is_used_and_no_other_folder_is_created(tmp_path: Path, cache_dir: Path) -> None:
    """The cache's own name holds what cuts a class path; the locale is the plainest there is."""
    cache = tmp_path / "cä:che, x"
    cache.symlink_to(cache_dir)
    folder = tmp_path / "all" / STRANGE_NAME
    code = (
        "import sys; from pathlib import Path; from local.broker import LocalBroker\n"
        "broker = LocalBroker(Path(sys.argv[1]), Path(sys.argv[2])); print(broker.start()); broker.stop()"
    )
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code, str(folder), str(cache)],
        capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C", "LANG": "C"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "all").iterdir()] == [STRANGE_NAME]
    assert (folder / "log" / "meta.properties").is_file()


def test_a_value_of_java_properties_round_trips() -> None:
    assert render({"a": "x y\\z\n#é☃😀"}) == "a=x\\u0020y\\u005cz\\u000a#\\u00e9\\u2603\\ud83d\\ude00\n"

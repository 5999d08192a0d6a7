"""The parts of the demo: its configuration, its folder, its lock, and the processes it starts and ends."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from rich.console import Console

from lab.streams import Catalogue
from lab.streams.logged.movielens import domain_values
from lab.streams.request import Request
from local.demo.children import Child, ChildDiedError, Children, NotReadyError, Part
from local.demo.command import _body, demo_folder, run_demo
from local.demo.folder import FolderInUseError, make_anew
from local.demo.run import Demo
from local.demo.settings import CONFIG_FILE, child_environment, demo_config, free_ports, write_config
from local.demo.state import DemoRunningError, DemoState, ending, only_demo, read_state, running, write_state
from local.probe import Scraped
from local.signals import Interrupted, hurried, interruptible
from local.watchdog import Watchdog
from model.encoding.domain import Domain, DomainSpace
from streaming.config import Config, KafkaConfig, load_config
from tests.lab.streams.worlds import stream

MOVIELENS = Catalogue((), (), DomainSpace(domain_values()))

# --- configuration ---


@pytest.mark.parametrize("own_topics", [False, True])
def test_the_configuration_round_trips(tmp_path: Path, own_topics: bool) -> None:
    config = demo_config(Config(), MOVIELENS, run_dir=tmp_path, bootstrap="127.0.0.1:7", own_topics=own_topics)
    assert load_config(write_config(config)) == config


def test_the_demo_declares_the_domains_of_its_data_and_windows_that_fit_its_clicks(tmp_path: Path) -> None:
    config = demo_config(Config(), MOVIELENS, run_dir=tmp_path, bootstrap="127.0.0.1:7", own_topics=False)
    assert {"zip0", "zip9", "other"} <= set(config.domains.region)
    assert config.join.window_s < 1
    parts = (config.ingest, config.processor, config.scorer)
    assert len({config.scorer.port, *(part.metrics_port for part in parts)}) == 4


def test_for_a_stream_the_demo_declares_its_domains_and_fields_and_changes_nothing_else(tmp_path: Path) -> None:
    domains = "{scene: {home: 0.5, shorts: 0.5}, region: {north: 1}}"
    catalogue = stream(domains=domains, requests=20, pretrain_requests=20, users=5).catalogue
    base = Config()
    config = demo_config(base, catalogue, run_dir=tmp_path, bootstrap="127.0.0.1:7", own_topics=False)
    assert config.domains.scene == ("home", "shorts")
    assert config.domains.region == ("north",)
    assert [spec.name for spec in config.features.user_fields] == ["gender", "age"]
    assert config.features.model_dump(exclude={"user_fields", "item_fields"}) == base.features.model_dump(
        exclude={"user_fields", "item_fields"}
    )
    assert load_config(write_config(config)) == config


def test_the_example_request_is_one_of_the_stream() -> None:
    request = Request(1.0, "u7", Domain("home", "unknown", "night"), tuple("abcdef"), (False,) * 6)
    assert json.loads(_body(request)) == {
        "user_id": "u7", "candidates": ["a", "b", "c", "d"], "domain": {"scene": "home", "period": "night"},
    }  # fmt: skip


def test_on_an_external_cluster_topics_and_groups_have_names_of_the_run(tmp_path: Path) -> None:
    config = demo_config(Config(), MOVIELENS, run_dir=tmp_path, bootstrap="kafka:9092", own_topics=True)
    names = [*config.topics.model_dump(include={"interactions", "traffic", "kernels", "state"}).values()]
    assert all(name.startswith("driftline-demo-") for name in [*names, config.ingest.group_id, config.processor.app_id])


def test_child_processes_get_the_file_and_secrets_and_no_other_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTLINE_KAFKA__BOOTSTRAP", "elsewhere:1")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy")
    kafka = KafkaConfig(
        bootstrap="kafka:1",
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_username="demo",
        sasl_password=SecretStr("not-for-files"),
    )
    features = Config().features.model_copy(update={"redis_password": SecretStr("nor-for-logs")})
    config = Config().model_copy(update={"kafka": kafka, "features": features, "run_dir": tmp_path})
    path = write_config(config)
    environment = child_environment(config, path)
    assert "DRIFTLINE_KAFKA__BOOTSTRAP" not in environment
    assert environment["DRIFTLINE_CONFIG"] == str(path)
    assert environment["DRIFTLINE_KAFKA__SASL_PASSWORD"] == "not-for-files"
    assert environment["HTTP_PROXY"] == "http://proxy"
    assert environment["DRIFTLINE_FEATURES__REDIS_PASSWORD"] == "nor-for-logs"
    assert "not-for-files" not in path.read_text()
    assert "nor-for-logs" not in path.read_text()


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(5))) == 5


# --- folder, lock, state ---


def test_the_folder_of_an_earlier_demo_is_recreated(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    make_anew(folder)
    (folder / "report.json").touch()
    make_anew(folder)
    assert [path.name for path in folder.iterdir()] == [CONFIG_FILE]


def test_a_folder_not_made_by_a_demo_is_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FolderInUseError, match="--run-dir"):
        make_anew(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_a_second_demo_on_one_folder_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with only_demo(folder), pytest.raises(DemoRunningError, match=str(os.getpid())), only_demo(folder):
        pytest.fail("two demos at once")
    with only_demo(tmp_path / "demo"):
        pass


def test_a_demo_that_was_left_running_is_refused_until_its_processes_end(
    tmp_path: Path, sleeper: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = sleeper()
    write_state(tmp_path, DemoState(running({"serve": process.pid}), {}))
    with pytest.raises(DemoRunningError, match=f"--run-dir {tmp_path} demo --stop"), only_demo(tmp_path):
        pytest.fail("it runs")
    process.kill()
    process.wait()
    with only_demo(tmp_path):
        pass


def test_the_ending_of_a_demo_names_the_folder_it_was_started_in() -> None:
    assert ending(demo_folder(Config())) == "`make stop` or `driftline demo --stop`"
    elsewhere = demo_folder(Config(run_dir=Path("my runs/one")))
    assert ending(elsewhere) == "`driftline --run-dir 'my runs/one' demo --stop`"


def test_a_reused_pid_is_not_taken_for_the_demo(tmp_path: Path) -> None:
    known = running({"serve": os.getpid()})
    old = DemoState({"serve": type(known["serve"])(os.getpid(), known["serve"].created - 1)}, {})
    write_state(tmp_path, old)
    state = read_state(tmp_path)
    assert state == old
    assert not state.alive()


def test_a_truncated_state_file_counts_as_missing(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"processes": {"ser')
    assert read_state(tmp_path) is None


# --- processes ---


def driftline(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Makes `driftline` a shell script for the test."""
    program = folder / "driftline"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))


@pytest.fixture
def children() -> Iterator[Children]:
    with Watchdog() as watching:
        started = Children(watching)
        yield started
        started.kill()
        started.stop()


PARTS = [Part("ingest", "http://127.0.0.1:9/healthz"), Part("serve", "http://127.0.0.1:9/readyz")]


def test_a_dead_child_process_is_reported_with_its_exit_code_and_log_tail(
    children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driftline(monkeypatch, tmp_path, 'echo "no such topic"; [ "$1" = serve ] && exec sleep 60; exit 7')
    children.start(PARTS, tmp_path / "logs", {"PATH": os.environ["PATH"]})
    with pytest.raises(ChildDiedError, match=r"driftline ingest` ended with exit code 7(.|\n)*no such topic"):
        children.wait_ready([part.name for part in PARTS], 30.0)


def test_a_child_process_that_never_gets_ready_is_reported_by_name(
    children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driftline(monkeypatch, tmp_path, "echo still thinking; exec sleep 60")
    children.start(PARTS, tmp_path / "logs", {"PATH": os.environ["PATH"]})
    waited: list[list[str]] = []
    with pytest.raises(NotReadyError, match=r"ingest` is not ready(.|\n)*still thinking"):
        children.wait_ready([part.name for part in PARTS], 0.5, waited.append)
    assert waited[-1] == ["ingest", "serve"]


def test_stopping_terminates_child_processes_and_kills_those_that_ignore_it(
    children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driftline(monkeypatch, tmp_path, "[ $1 = serve ] && trap '' TERM; echo up; while :; do sleep 0.05; done")
    children.start(PARTS, tmp_path / "logs", {"PATH": os.environ["PATH"]})
    logs = [tmp_path / "logs" / f"{part.name}.log" for part in PARTS]
    while not all("up" in log.read_text() for log in logs):
        time.sleep(0.02)
    pids = children.pids()
    assert children.stop(timeout_s=1.0) == ["serve"]
    assert not any(psutil.pid_exists(pid) for pid in pids.values())


def test_a_child_process_leads_its_own_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driftline(monkeypatch, tmp_path, "exec sleep 60")
    child = Child(PARTS[0], tmp_path / "ingest.log", {"PATH": os.environ["PATH"]})
    try:
        assert os.getsid(child.pid) == child.pid
    finally:
        child.signal(signal.SIGKILL)
        assert child.wait(10)


# --- signals, metrics ---


def test_an_ending_signal_interrupts_with_the_shells_exit_code() -> None:
    with pytest.raises(Interrupted) as raised, interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert raised.value.exit_code == 128 + signal.SIGTERM


def test_a_signal_during_shutdown_only_speeds_it_up() -> None:
    calls: list[int] = []
    with interruptible():
        with hurried(lambda: calls.append(1)):
            signal.raise_signal(signal.SIGINT)
        assert calls == [1]


@pytest.mark.parametrize(
    ("left", "words"), [(True, "the demo is left running"), (False, "everything that the demo started has ended")]
)
def test_a_signal_in_the_last_lines_of_a_demo_is_answered_with_what_is_left(
    left: bool, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ran(demo: Demo) -> None:
        demo._watchdog.close()
        demo.left_running = left

    monkeypatch.setattr(Demo, "run", ran)
    monkeypatch.setattr("local.report.report_table", lambda _report: signal.raise_signal(signal.SIGTERM))
    console = Console(record=True, width=200, file=io.StringIO())
    assert run_demo(Config(run_dir=tmp_path / "run"), keep=left, console=console) == 128 + signal.SIGTERM
    assert f"SIGTERM: {words}" in console.export_text()


def test_metrics_are_summed_and_split_by_a_label() -> None:
    from prometheus_client.samples import Sample

    scraped = Scraped(
        [Sample("a", {"reason": "late"}, 2.0), Sample("a", {"reason": "none"}, 0.0), Sample("b", {}, 1.0)]
    )
    assert scraped.total("a") == 2.0
    assert scraped.total("missing") == 0.0
    assert scraped.by("a", "reason") == {"late": 2}

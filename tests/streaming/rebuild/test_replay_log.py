"""`driftline replay-log` and `driftline off-policy`, which read a group's log again, on a real broker."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from rich.console import Console

from features.live.first_rows import write_first_rows
from local.state import off_policy, replay_log
from local.state.off_policy import print_off_policy
from local.state.replay_log import Point, ReplayOptions, run_replay_log, skip_span
from model.gate.config import GateConfig
from streaming.backbone import OpenedBackbone
from streaming.clients import make_producer
from streaming.config import Config, JoinConfig
from streaming.control.history import ControlError
from streaming.events import ServedImpression
from streaming.events.decisions import decode_decision
from streaming.events.traffic import ExploredImpression
from streaming.group.assembly import new_machine
from streaming.group.machine import GroupMachine
from streaming.kernel_log.errors import SnapshotError
from streaming.kernel_log.reader import read_group
from streaming.kernel_log.snapshot import decode_snapshot
from streaming.kernel_log.writer import GroupWriter
from streaming.processor.commit import Cut, CutPlace, CutState, encode
from streaming.processor.partition_reader import PartitionReader
from streaming.rebuild import saved
from streaming.rebuild.publish import publish
from streaming.rebuild.replay import ReplayError, Span, offset_at, relearn, replay, traffic_span
from streaming.rebuild.state import WholeState
from streaming.topic_scan import scan
from streaming.topics import ensure_topics
from tests.streaming.group.exploring import exploring
from tests.streaming.group.tiny import BACKBONE, FIRST_ROWS, JOIN, LEARNER, LIVE, encoded, traffic
from tests.streaming.processor.tiny_processor import OPENED

RECORDS = encoded(traffic(80))


@pytest.fixture
def config(stream_config: Config, tmp_path: Path) -> Config:
    """One kernel group, learned as in the tiny machine."""
    changed = stream_config.model_copy(
        update={
            "domains": stream_config.domains.model_copy(update={"period": ("day", "night")}),
            "live": LIVE,
            "backbone_path": tmp_path / "backbone",
            "learner": LEARNER,
            "join": JoinConfig(**JOIN.model_dump()),
            "gate": GateConfig(good_every_examples=32),
        }
    )
    changed.backbone_dir.mkdir()
    write_first_rows(changed.backbone_dir, "main", changed.domains_of("main"), FIRST_ROWS)
    ensure_topics(changed)
    return changed


def produce(config: Config, records: Sequence[bytes]) -> list[float]:
    """Appends records; their append times, seconds."""
    with make_producer(config.kafka) as producer:
        sent = [producer.send(config.topics.traffic, value=value, partition=0) for value in records]
        return [one.get(timeout=30).timestamp / 1_000 for one in sent]


def learned(config: Config, records: Sequence[bytes], times: Sequence[float], skip: Span | None = None) -> GroupMachine:
    with closing(PartitionReader(config, 0)) as reader:
        machine = new_machine(config, OPENED, "main", reader)
        relearn(machine, zip(range(len(records)), records, times, strict=True), skip)
    return machine


async def commit(config: Config, machine: GroupMachine) -> None:
    """Writes the state of a machine as a processor would."""
    writer = GroupWriter(config, "main", 0)
    await writer.open()
    stored = await read_group(config, "main", 0)
    closed = machine.take_closed()
    state = CutState(
        machine.snapshot(),
        machine.rows.live.rows(),
        machine.rows_offset,
        machine.first_keys,
        closed,
        kept=machine.take_checkpoints(),
    )
    place = CutPlace(stored.chosen.number, stored.chosen.slot, stored.traffic.topic)
    await writer.write(encode(Cut(machine.publisher.published, state), place))
    await writer.close()


def order(folder: Path, *, skip: Span | None = None, publish: bool = False, start: Path | None = None) -> ReplayOptions:
    return ReplayOptions("main", folder, Point(), Point(), skip, start, publish, "a test")


def run(config: Config, wanted: ReplayOptions, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    def opened(_config: Config) -> OpenedBackbone:
        return OPENED

    monkeypatch.setattr(replay_log, "open_backbone", opened)
    console = Console(record=True, width=300)
    code = run_replay_log(config, wanted, console)
    return code, console.export_text()


def test_a_replay_equals_the_logged_state_bit_for_bit_and_reports_it(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = produce(config, RECORDS)
    asyncio.run(commit(config, learned(config, RECORDS, times)))
    code, output = run(config, order(tmp_path / "out"), monkeypatch)
    assert code == 0
    assert "learner equal, bit for bit, live rows equal, bit for bit" in output


def test_a_replay_learns_on_one_thread_so_that_its_bits_do_not_depend_on_the_number_of_cores(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    produce(config, RECORDS[:20])
    threads: list[int] = []
    feed = GroupMachine.feed

    def counted(machine: GroupMachine, *record: Any) -> Any:
        threads.append(torch.get_num_threads())
        return feed(machine, *record)

    monkeypatch.setattr(GroupMachine, "feed", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        replay(config, OPENED, "main", traffic_span(config, "main"), span=Span(0, 20))
    finally:
        torch.set_num_threads(before)
    assert set(threads) == {1}


def test_a_replay_does_not_show_the_log_of_the_kafka_client(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    produce(config, RECORDS[:20])
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.NOTSET, logger="kafka")
    caplog.clear()
    run(config, order(tmp_path / "out"), monkeypatch)
    assert [record for record in caplog.records if record.name.partition(".")[0] == "kafka"] == []


def test_a_modified_log_is_detected(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = produce(config, RECORDS)
    asyncio.run(commit(config, learned(config, RECORDS, times, Span(10, 20))))
    code, output = run(config, order(tmp_path / "out"), monkeypatch)
    assert code == 1
    assert "learner different" in output


def test_a_bad_span_is_skipped_and_the_result_becomes_the_state_of_the_group(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = produce(config, RECORDS)
    poisoned = learned(config, RECORDS, times)
    asyncio.run(commit(config, poisoned))
    span = Span(100, 160)
    code, output = run(config, order(tmp_path / "out", skip=span, publish=True), monkeypatch)
    assert code == 0, output
    wanted = learned(config, RECORDS, times, span)
    stored = asyncio.run(read_group(config, "main", 0))
    assert stored.kernel_version == poisoned.publisher.version + 1, "scorers never go back"
    assert stored.chosen.cut is not None
    state = saved.load(tmp_path / "out", "main")
    assert {(row.kind, row.key): row.values.tobytes() for row in stored.rows if not row.tombstone} == {
        (row.kind, row.key): row.values.tobytes() for row in wanted.rows.live.rows()
    }
    snapshot = decode_snapshot(stored.chosen.cut.snapshot, group="main", fingerprint=BACKBONE.fingerprint)
    assert snapshot.learner == wanted.learner.snapshot()
    assert (snapshot.examples, snapshot.next_offset) == (wanted.publisher.examples, wanted.position)
    assert state.cut.topic == stored.traffic.topic
    poisoned_good, good = poisoned.guarded.gate.good, wanted.guarded.gate.good
    assert good is not None and poisoned_good is not None and good != poisoned_good, "or the next line says little"
    assert [kept for kept in stored.kept if kept.number == snapshot.good] == [good]
    (made,) = [decode_decision(record.value or b"") for record in scan(config, config.topics.decisions, 0)]
    assert (made.kind, made.by, made.detail["left_out"]) == ("replay", "a test", [100, 160])


def test_a_replay_continues_from_the_saved_state_of_an_earlier_one(config: Config, tmp_path: Path) -> None:
    times = produce(config, RECORDS)
    span = traffic_span(config, "main")
    half = replay(config, OPENED, "main", span, span=Span(0, 150))
    saved.save(tmp_path / "half", half.state)
    start = saved.load(tmp_path / "half", "main")
    done = replay(config, OPENED, "main", span, span=Span(0, len(RECORDS)), start=start)
    whole = learned(config, RECORDS, times)
    assert done.state.snapshot.learner == whole.learner.snapshot()
    assert done.state.snapshot.examples == whole.publisher.examples
    assert done.state.kept == [whole.guarded.gate.good, whole.guarded.gate.next_good]


def test_an_impossible_replay_is_refused_with_an_explanation(config: Config, tmp_path: Path) -> None:
    produce(config, RECORDS)
    span = traffic_span(config, "main")
    with pytest.raises(ReplayError, match="no kernel group 'other'; the configured ones are: main"):
        traffic_span(config, "other")
    for time_s in (math.nan, math.inf, -1.0, 1.7e12):
        with pytest.raises(ReplayError, match="no time of a broker: give seconds"):
            offset_at(config, span, time_s)
    with pytest.raises(ReplayError, match="come together"):
        skip_span(3, None)
    with pytest.raises(SnapshotError, match="no state that `driftline replay-log` wrote"):
        saved.load(tmp_path / "nothing", "main")
    done = replay(config, OPENED, "main", span, span=Span(0, 150))
    saved.save(tmp_path / "half", done.state)
    with pytest.raises(ReplayError, match="from 100 on nothing can be left out of it"):
        half = saved.load(tmp_path / "half", "main")
        replay(config, OPENED, "main", span, span=Span(0, 200), start=half, skip=Span(100, 160))
    saved.save(tmp_path / "half", replace(done.state, topic="another topic"))
    with pytest.raises(ReplayError, match="belongs to another topic"):
        replay(config, OPENED, "main", span, span=Span(0, 200), start=saved.load(tmp_path / "half", "main"))


def test_nothing_is_published_while_processors_run(config: Config) -> None:
    from streaming.clients import make_consumer
    from streaming.events.decisions import Decision

    times = produce(config, RECORDS)
    machine = learned(config, RECORDS, times)
    with make_consumer(config.kafka, config.topics.traffic, group_id=config.processor_consumers) as consumer:
        while not consumer.assignment():
            consumer.poll(timeout_ms=200)
        state = WholeState.of(machine, "topic", {})
        with pytest.raises(ReplayError, match="still run"):
            asyncio.run(publish(config, state, Decision("replay", "main", 0.0, "a test")))


def estimates(config: Config, *times: float | None, versions: Sequence[int] = (), as_json: bool = False) -> str:
    console = Console(record=True, width=300, file=io.StringIO())
    begin, end = times or (None, None)
    print_off_policy(config, "main", (begin, end), versions, console, as_json=as_json)
    return console.export_text()


def test_other_policies_are_estimated_from_the_explored_requests_in_the_log(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(_config: Config) -> OpenedBackbone:
        return OPENED

    monkeypatch.setattr(off_policy, "open_backbone", opened)
    records = [
        msgspec.structs.replace(record, user_id=record.request_id) if isinstance(record, ServedImpression) else record
        for record in exploring(traffic(600))
    ]
    values = encoded(records)
    machine = learned(config, values[:100], produce(config, values)[:100])
    asyncio.run(commit(config, machine))
    version = machine.publisher.version
    assert version > 0
    rows = json.loads(estimates(config, versions=[version], as_json=True))
    explored = sum(isinstance(record, ExploredImpression) for record in records)
    assert (rows["explored"], rows["open"], rows["refused"]) == (explored, 0, {})
    found = {row["policy"]: row for row in rows["policies"]}
    assert set(found) == {"logged", "served", "live", "frozen", "uniform", f"kernel {version}"}
    assert found["live"] == found["served"] | {"policy": "live", "less_served": found["live"]["less_served"]}
    assert found["frozen"]["estimates"]["requests"] == explored
    assert found[f"kernel {version}"]["estimates"]["requests"] < explored
    dr = found["uniform"]["estimates"]["dr"]
    assert dr["low"] < 0.5 < dr["high"], "users of this traffic click on half of all items"
    printed = estimates(config, versions=[version])
    assert f"{explored:,} explored requests" in printed and " ±" in printed
    nothing = estimates(config, time.time() + 60, None)
    assert "0 explored requests" in nothing and "scorer.explore_share" in nothing
    with pytest.raises(ControlError, match="version 99 is not in the history"):
        estimates(config, versions=[99])

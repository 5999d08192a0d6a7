"""Records that ingest refuses or cannot read, on the real broker: they are named, and valid ones continue."""

from __future__ import annotations

import time

import pytest

from streaming.clients import make_producer
from streaming.config import Config
from tests.streaming.ingest.running_ingest import click, eventually, running


def damaged(_: bytes) -> bytes:
    raise RuntimeError("damaged")


def send_batch(config: Config, codec: str) -> list[int]:
    """Three clicks in one batch in partition 0; gives their offsets."""
    with make_producer(config.kafka, compression_type=codec, linger_ms=500) as producer:
        topic = config.topics.interactions
        sent = [producer.send(topic, click(f"{codec} {number}"), partition=0) for number in range(3)]
        producer.flush()
    return [future.get(timeout=0).offset for future in sent]


def test_every_invalid_record_becomes_a_complete_dead_letter_and_valid_records_continue(config: Config) -> None:
    bad = {
        b"{broken": "not_json",
        b"\xff\xfe": "not_json",
        b'{"event": "purchase", "time": 1}': "unknown_event",
        b'{"event": "feedback", "request_id": "main.r"}': "bad_shape",
        click("i", time=time.time() + 90_000): "future",
        click(""): "bad_id",
        click("i", request_id="elsewhere.1"): "no_group",
        b"": "empty",
    }
    with running(config) as ingest:
        ingest.send(
            *(value for pair in zip(bad, (click(f"good{i}") for i in range(len(bad))), strict=True) for value in pair)
        )
        ingest.send(None)
        letters = eventually("all letters", lambda: ingest.letters() if len(ingest.letters()) > len(bad) else None)
        eventually("all good ones", lambda: len(ingest.feedback()) == len(bad))
        assert sorted((letter.value, letter.reason) for letter in letters) == sorted([*bad.items(), (b"", "empty")])
        assert all(letter.topic == config.topics.interactions and letter.attempts == 1 for letter in letters)
        assert len({(letter.partition, letter.offset) for letter in letters}) == len(letters)
        record = ingest._letters.records[0]
        assert record.key == b"k" and ("from", b"test") in list(record.headers)
        eventually("all committed", lambda: ingest.committed() == 2 * len(bad) + 1)


def test_feedback_after_many_refused_records_is_routed(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    with running(config) as ingest:
        ingest.send(*(click("i", request_id="nobody.1") for _ in range(1_200)), click("good"))
        eventually("the good one is routed", lambda: ingest.feedback() == ["good"])
        eventually("all letters", lambda: len(ingest.letters()) == 1_200)
        assert ingest.thread.is_alive()
        eventually("the log says what to look at", lambda: "driftline dead-letters list" in caplog.text)
    assert ingest.exit_code == 0


@pytest.mark.parametrize("codec", ["gzip", "lz4", "snappy", "zstd"])
def test_a_batch_is_read_in_every_compression_codec(config: Config, codec: str) -> None:
    with running(config) as ingest:
        send_batch(config, codec)
        eventually("all three are routed", lambda: ingest.feedback() == [f"{codec} {number}" for number in range(3)])
        assert ingest.letters() == []


def test_a_compressed_record_with_a_huge_key_is_dead_lettered_without_affecting_others(config: Config) -> None:
    with running(config) as ingest:
        producer = make_producer(config.kafka, compression_type="gzip", max_request_size=64 * 1024 * 1024)
        topic = config.topics.interactions
        producer.send(topic, click("huge key"), key=b"k" * 20_000_000, partition=0)
        producer.send(topic, b"junk", key=b"k" * 20_000_000, partition=0)
        producer.send(topic, b'{"event": "item"' + b" " * 20_000_000, partition=0)
        producer.close()
        ingest.send(click("good"))
        eventually("both clicks are routed", lambda: sorted(ingest.feedback()) == ["good", "huge key"])
        eventually("two letters", lambda: {letter.reason for letter in ingest.letters()} == {"not_json", "too_large"})
        (junk,) = (letter for letter in ingest.letters() if letter.reason == "not_json")
        assert junk.value == b"junk" and "key and headers of 20000000 bytes" in junk.detail and junk.cure
    assert ingest.exit_code == 0


def test_a_batch_that_cannot_be_decompressed_is_skipped_and_reported_by_its_offsets(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kafka.record.default_records.lz4_decode", damaged)
    with running(config) as ingest:
        ingest.send(click("before"))
        eventually("it is routed", lambda: ingest.feedback() == ["before"])
        spoilt, *_ = send_batch(config, "lz4")
        ingest.send(click("after"))
        eventually("what stands behind it is routed", lambda: ingest.feedback() == ["before", "after"])
        (letter,) = eventually("one letter", ingest.letters)
        assert (letter.reason, letter.partition, letter.offset) == ("unreadable", 0, spoilt)
        assert f"records {spoilt} to {spoilt + 2}" in letter.detail and "codec" in letter.cure
        eventually("all is committed", lambda: ingest.committed() == 5)
    with running(config) as again:
        again.send(click("later"))
        eventually("nothing is read twice", lambda: again.feedback() == ["before", "after", "later"])
        eventually("there is still one letter", again.letters)
        assert len(again.letters()) == 1

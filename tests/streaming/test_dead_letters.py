"""Dead letters listed, shown and replayed on the real broker, by the command that an operator types."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from driftline.cli import app
from streaming.clients import make_producer
from streaming.config import Config, GroupConfig
from streaming.dead_letters import LetterPosition, replay, summary
from streaming.events import CURES, REASONS, FeedbackEvent, encode_event
from streaming.topic_scan import TopicScanError
from tests.streaming.ingest.running_ingest import click, eventually, running

Driftline = Callable[..., Result]


@pytest.fixture
def config(stream_config: Config) -> Config:
    return stream_config.model_copy(update={"groups": (GroupConfig(name="main"),)})


@pytest.fixture
def driftline(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driftline:
    """The command line with this test's topics."""
    monkeypatch.setenv("DRIFTLINE_TOPICS__INTERACTIONS", config.topics.interactions)
    monkeypatch.setenv("DRIFTLINE_TOPICS__DEAD_LETTERS", config.topics.dead_letters)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(
            app, ["--bootstrap", config.kafka.bootstrap, "--run-dir", str(tmp_path), "dead-letters", *arguments]
        )

    return run


def wrong_group(item: str) -> bytes:
    return encode_event(FeedbackEvent("later.1", item, time.time()))


def test_dead_letters_are_listed_shown_and_replayed_once_the_cause_is_fixed(
    config: Config, driftline: Driftline
) -> None:
    with running(config) as ingest:
        ingest.send(b"junk \xff", wrong_group("a"), wrong_group("b"))
        eventually("three letters", lambda: len(ingest.letters()) == 3)
        listed = driftline("list")
        assert listed.exit_code == 0 and "not_json" in listed.output and "0:2" in listed.output
        assert "no_group" in listed.output and "replay --reason" in listed.output
        shown = json.loads(driftline("show", "0:1").output)
        assert (shown["reason"], shown["cure"], shown["topic"]) == (
            "no_group", CURES["no_group"], config.topics.interactions
        )  # fmt: skip
        assert json.loads(shown["value"])["item_id"] == "a" and shown["key"] == "k"
        assert json.loads(driftline("show", "0").output)["value"] == "anVuayD/"  # no text: base64

    mended = config.model_copy(update={"groups": (GroupConfig(name="later"),)})
    with running(mended) as ingest:
        assert "2 sent again" in driftline("replay", "--reason", "no_group").output
        eventually("both are routed", lambda: sorted(ingest.feedback()) == ["a", "b"])
        second = driftline("replay", "--reason", "no_group").output
        assert "0 sent again" in second and "2 were sent again before" in second
        assert summary(mended).replayed["no_group"] == 2


def test_dead_letters_that_failed_again_are_skipped_unless_requested(config: Config) -> None:
    with running(config) as ingest:
        ingest.send(wrong_group("a"))
        eventually("a letter", lambda: len(ingest.letters()) == 1)
        assert replay(config, reason="no_group").sent == 1
        eventually("the second letter", lambda: summary(config).number["no_group"] == 2)
        counts = replay(config, reason="no_group")
        assert (counts.sent, counts.already, counts.same_again) == (0, 1, 1)
        refused_twice = summary(config).newest["no_group"][-1].position
        assert replay(config, positions={refused_twice}, again=True).sent == 1
        eventually("the third", lambda: summary(config).number["no_group"] == 3)


def test_a_dead_letter_without_its_record_is_reported_and_not_replayed(config: Config) -> None:
    with running(config) as ingest:
        ingest.send(None, click("good"))
        eventually("a letter", lambda: summary(config).number["empty"] == 1)
        counts = replay(config, reason="empty")
        assert (counts.sent, counts.without_value) == (0, 1)
        eventually("the good one", lambda: ingest.feedback() == ["good"])


def test_foreign_records_in_the_topic_are_counted_and_skipped(config: Config, driftline: Driftline) -> None:
    with running(config) as ingest:
        with make_producer(config.kafka) as producer:
            producer.send(config.topics.dead_letters, b"[" * 100_000)
            producer.send(config.topics.dead_letters, b"{}")
            producer.flush()
        ingest.send(b"junk")
        eventually("the letter", lambda: summary(config).number["not_json"] == 1)
        assert summary(config).foreign == 2
        listed = driftline("list", "--reason", "no_group")
        assert "no dead letters" in listed.output and "2 records" in listed.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "0:99"), "there is no letter at 0:99"),
        (("show", "first"), "is no position"),
        (("replay",), "name positions, or a --reason"),
        (("list", "--reason", "nonsense"), "no_group"),
    ],
)
def test_an_invalid_position_or_reason_is_refused_with_a_remedy(
    config: Config, driftline: Driftline, arguments: tuple[str, ...], message: str
) -> None:
    from streaming.topics import ensure_topics

    ensure_topics(config)
    answered = driftline(*arguments)
    assert answered.exit_code != 0
    assert message in " ".join(f"{answered.output} {answered.exception}".split())


def test_without_the_topic_the_error_has_a_remedy(config: Config, driftline: Driftline) -> None:
    answered = driftline("list")
    assert isinstance(answered.exception, TopicScanError) and "driftline setup" in str(answered.exception)


def test_every_reason_has_a_remedy() -> None:
    assert CURES.keys() == REASONS.keys()


@pytest.mark.parametrize("text", ["", "1:", ":1", "a:1", "1:b", "-1", "1:2:3"])
def test_an_invalid_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no position"):
        LetterPosition.of(text)

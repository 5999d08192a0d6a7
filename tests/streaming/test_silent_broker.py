"""What a command prints when no broker answers: the address and a remedy, for any error."""

from __future__ import annotations

import aiokafka.errors
import kafka.errors
import pytest

from driftline.cli import main
from streaming.topic_scan import TopicScanError


@pytest.mark.parametrize(
    "error",
    [
        kafka.errors.KafkaTimeoutError("no metadata"),
        aiokafka.errors.KafkaConnectionError("no host"),
        TopicScanError("topic 'history' cannot be read"),
    ],
)
def test_an_unreachable_broker_is_reported_with_a_remedy(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        if isinstance(error, TopicScanError):
            raise error from kafka.errors.KafkaTimeoutError("no metadata")
        raise error

    monkeypatch.setattr("local.control.views.print_list", fails)
    with pytest.raises(SystemExit):
        main(["--bootstrap", "nowhere:9", "kernel", "list"])
    output = capsys.readouterr().err
    assert "nowhere:9" in output and "driftline broker start" in output and "--bootstrap" in output
    assert str(error.args[0]) in output


def test_an_error_unrelated_to_the_broker_is_reported_unchanged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise TopicScanError("there is no such version")

    monkeypatch.setattr("local.control.views.print_list", fails)
    with pytest.raises(SystemExit):
        main(["kernel", "list"])
    output = capsys.readouterr().err
    assert "there is no such version" in output and "broker start" not in output


@pytest.mark.timeout(25)
@pytest.mark.parametrize("command", [["kernel", "list"], ["dead-letters", "list"]])
def test_a_command_ends_by_itself_when_no_broker_answers(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("streaming.topic_scan.COMMAND_CONNECT_MS", 200)  # the client by itself tries for half a minute
    with pytest.raises(SystemExit) as ended:
        main(["--bootstrap", "127.0.0.1:1", *command])
    assert ended.value.code == 2
    assert "127.0.0.1:1" in capsys.readouterr().err

"""The transactions of a group on a real broker."""

from __future__ import annotations

from streaming.clients import make_consumer
from streaming.config import Config
from streaming.events.decisions import Decision, decode_decision, encode_decision
from streaming.events.status import GroupStatus, decode_status, encode_status
from streaming.kernel_log.keys import learner_key
from streaming.kernel_log.rows import StateRecord
from streaming.kernel_log.writer import GroupWriter, Transaction
from streaming.topics import ensure_topics

LOOK = GroupStatus("main", 7.0, 8.0, examples=128, kernel_version=2)
SNAPSHOT = StateRecord(learner_key("main", 0), b"snapshot")


def values(config: Config, topic: str) -> list[bytes]:
    options = {"isolation_level": "read_committed", "consumer_timeout_ms": 1_500}
    return [record.value for record in make_consumer(config.kafka, topic, **options)]


async def test_a_transaction_writes_the_kernel_to_the_history_with_decisions_and_status(
    stream_config: Config,
) -> None:
    ensure_topics(stream_config)
    hold = Decision("hold", "main", 7.0, "gate", {"log_loss": 0.7})
    writer = GroupWriter(stream_config, "main", 0)
    await writer.open()
    try:
        await writer.write(Transaction(b"kernel 1", SNAPSHOT, decisions=[encode_decision(hold)]))
        await writer.write(Transaction(b"kernel 2", status=encode_status(LOOK)))
        await writer.write(Transaction(None, SNAPSHOT))
    finally:
        await writer.close()
    topics = stream_config.topics
    assert values(stream_config, topics.history) == [b"kernel 1", b"kernel 2"]
    assert values(stream_config, topics.kernels).count(b"kernel 2") == 1
    assert [decode_status(value) for value in values(stream_config, topics.status)] == [LOOK]
    assert [decode_decision(value) for value in values(stream_config, topics.decisions)] == [hold]

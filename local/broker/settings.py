"""What the local broker is told: Kafka's own properties, the logger's, and the options of the Java machine."""

from __future__ import annotations

from pathlib import Path

HOST = "127.0.0.1"
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""Largest record the broker takes: an impression of a thousand items with its representations fits."""

JAVA_OPTIONS = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
"""One small machine: the compiler's first tier starts twice as fast, and one collector thread leaves the cores free."""

LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1}: %m%n
# Their start prints every setting, several hundred lines.
logger.config.name = org.apache.kafka.common.config
logger.config.level = WARN
logger.kafkaconfig.name = kafka.server.KafkaConfig
logger.kafkaconfig.level = WARN
logger.utils.name = kafka.utils.Log4jControllerRegistration$
logger.utils.level = WARN
"""


def server_properties(port: int, controller_port: int, log_dir: Path) -> dict[str, str]:
    """Kafka's properties of one node that is broker and controller, reachable from this machine only."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(log_dir),
        **_ONE_NODE,
        **_QUICK,
        "message.max.bytes": str(MAX_MESSAGE_BYTES),
        "auto.create.topics.enable": "false",
    }


_ONE_NODE = {
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "default.replication.factor": "1",
    # Fifty partitions of each internal topic are for clusters; here they are files to open at every start.
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
}

_QUICK = {
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "log.cleaner.backoff.ms": "1000",
    # After a kill the controller waits for the dead broker's session to end before it takes the new one.
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "1000",
}


def render(properties: dict[str, str]) -> str:
    """The text of a properties file; backslashes (Windows paths) are escaped as its format wants."""
    return "".join(f"{key}={value}\n" for key, value in properties.items()).replace("\\", "\\\\")

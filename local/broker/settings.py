"""Settings of the local broker: Kafka's properties, its logging, and the options of the Java machine."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

HOST = "127.0.0.1"
LOG_DIR = "log"
"""Relative to the data folder, the broker's working directory: `log.dirs` is cut at commas, and nothing escapes
one (docs/decisions/0011)."""
JAR_DIR = "jars"
"""A link in the data folder to the cache's jars: the class path is cut at colons, and nothing escapes one."""
SERVER_FILE = "server.properties"
LOGGING_FILE = "log4j2.properties"
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""Largest record the broker takes: an impression of a thousand items with its representations fits."""

JAVA_OPTIONS = (
    # For one small machine: the first compiler tier starts twice as fast, and one collector thread spares the cores.
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
    f"-Dlog4j2.configurationFile={LOGGING_FILE}",
)

LOCALE = {"LC_ALL": "C.UTF-8"}
"""Java reads the names of folders by the locale; in the locale C it makes other names of those with an accent."""

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


@dataclass(frozen=True)
class Node:
    """One node of a cluster on this machine: broker and controller in one process."""

    number: int = 1
    """Number of the node, from 1."""
    controller_ports: tuple[int, ...] = ()
    """Controller ports of all nodes, in the order of their numbers; empty for a single node, on a free port."""

    @property
    def size(self) -> int:
        """Nodes of the cluster."""
        return max(1, len(self.controller_ports))

    @property
    def cluster_id(self) -> str | None:
        """Made of the ports, so that every node formats its storage for the same cluster; None for a node alone."""
        if not self.controller_ports:
            return None
        name = ",".join(map(str, self.controller_ports)).encode()
        return as_cluster_id(hashlib.sha256(name).digest()[:16])


def as_cluster_id(identity: bytes) -> str:
    """Sixteen bytes as Kafka writes a cluster's identity."""
    # A first byte below 128 keeps the text from beginning with a dash, which the tool takes for an option.
    return base64.urlsafe_b64encode(bytes([identity[0] & 0x7F]) + identity[1:]).decode().rstrip("=")


def server_properties(port: int, controller_port: int, node: Node | None = None) -> dict[str, str]:
    """Kafka's properties of a node that is broker and controller, reachable from this machine only."""
    node = node or Node()
    controllers = node.controller_ports or (controller_port,)
    controller = controllers[node.number - 1] if node.controller_ports else controller_port
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.number),
        "controller.quorum.voters": ",".join(f"{n}@{HOST}:{p}" for n, p in enumerate(controllers, 1)),
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": LOG_DIR,
        **_replicas(node.size),
        **_SMALL,
        **_QUICK,
        "message.max.bytes": str(MAX_MESSAGE_BYTES),
        "auto.create.topics.enable": "false",
    }


def _replicas(nodes: int) -> dict[str, str]:
    """Kafka's own topics on every node, up to three; with three, two must have a record before it is acknowledged."""
    replicas, in_sync = str(min(nodes, 3)), "2" if nodes > 2 else "1"
    return {
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
    }


_SMALL = {
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
    """The text of a Java properties file in pure ASCII, escaped so that every value is read back unchanged."""
    return "".join(f"{key}={_escaped(value)}\n" for key, value in properties.items())


def _escaped(value: str) -> str:
    """A value with the escapes of `java.util.Properties`: a backslash doubled, the rest as UTF-16 code units."""
    plain = [
        character if " " < character <= "~" and character != "\\" else _code_units(character) for character in value
    ]
    return "".join(plain)


def _code_units(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))

"""What the local broker is told: Kafka's own properties, the logger's, and the options of the Java machine."""

from __future__ import annotations

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
    # One small machine: the compiler's first tier starts twice as fast, and one collector thread leaves the cores free.
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


def server_properties(port: int, controller_port: int) -> dict[str, str]:
    """Kafka's properties of one node that is broker and controller, reachable from this machine only."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": LOG_DIR,
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
    """The text of a Java properties file, in pure ASCII: whatever stands in a value comes back as it was."""
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

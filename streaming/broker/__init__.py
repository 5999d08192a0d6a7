"""A real Apache Kafka on this machine, with nothing installed: one KRaft node from pinned, hashed jars.

`LocalBroker` is the whole of it; `streaming.broker.command` puts it on the command line.
"""

from streaming.broker.errors import BrokerError
from streaming.broker.local import LocalBroker
from streaming.broker.state import BrokerState

__all__ = ["BrokerError", "BrokerState", "LocalBroker"]

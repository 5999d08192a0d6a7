"""A real Apache Kafka on this machine, with nothing installed: one KRaft node from pinned, hashed jars.

`LocalBroker` is the whole of it; `local.broker.command` puts it on the command line.
"""

from local.broker.errors import BrokerError
from local.broker.local import LocalBroker
from local.broker.state import BrokerState

__all__ = ["BrokerError", "BrokerState", "LocalBroker"]

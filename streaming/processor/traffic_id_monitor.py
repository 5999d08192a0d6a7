"""Checks that `traffic` is still the topic that groups were loaded for, because offsets of another have no meaning."""

from __future__ import annotations

import logging
import threading

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from streaming.clients import make_admin, topic_id
from streaming.config import Config
from streaming.retries import Throttle

log = logging.getLogger(__name__)
_ASK_EVERY_S = 2.0
_LOG_EVERY_S = 5.0


class TrafficReplacedError(Exception):
    """The topic was deleted and created again while the processor ran."""


class TrafficIdMonitor:
    """Asks now and then for the id of `traffic`. A broker that does not answer leaves the result unchanged."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._id: str | None = None
        self._missing = False
        self._throttle = Throttle(_LOG_EVERY_S)
        self._ending = threading.Event()

    def run(self) -> None:
        """Asks until `stop` is called; the thread's body. Raises TrafficReplacedError."""
        while not self._ending.is_set():
            try:
                with make_admin(self._config.kafka) as admin:
                    self._ask(admin)
            except (KafkaError, OSError) as error:
                log.debug("asking for the id of %s failed: %s", self._config.topics.traffic, error)
                self._ending.wait(_ASK_EVERY_S)

    def _ask(self, admin: KafkaAdminClient) -> None:
        while not self._ending.is_set():
            self.note(topic_id(admin, self._config.topics.traffic))
            self._ending.wait(_ASK_EVERY_S)

    def note(self, found: str | None) -> None:
        """Takes the topic's present id, None if there is no such topic. Raises TrafficReplacedError if it changed."""
        name = self._config.topics.traffic
        self._missing = found is None
        if found is None:
            if self._throttle.due():
                log.error("%s", self.check())
            return
        if self._id not in (None, found):
            raise TrafficReplacedError(
                f"topic {name!r} was deleted and made anew ({self._id}, now {found}): what it held is lost; this"
                " process ends, and the next goes on from the beginning of the new topic with what was learned"
            )
        self._id = found

    def check(self) -> str | None:
        """For `/healthz`: a sentence if the topic is missing."""
        if not self._missing:
            return None
        return (
            f"Kafka on {self._config.kafka.bootstrap} has no topic {self._config.topics.traffic!r} any more: somebody"
            " deleted it, and nothing is learned; make it again with `driftline setup`"
        )

    def stop(self) -> None:
        """Makes `run` end soon."""
        self._ending.set()

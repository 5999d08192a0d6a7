"""Whether Kafka answers and has the topics, for the log and `/healthz`."""

from __future__ import annotations

import logging
import time

from kafka.errors import KafkaError

from streaming.clients import missing_topics
from streaming.config import Config
from streaming.retries import Throttle

log = logging.getLogger(__name__)

_AWAY_S = 10.0
_LOG_EVERY_S = 5.0


class KafkaHealth:
    """Records answers and failures. Because a deleted topic fails like an absent broker, it then asks which it is."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._answered = time.monotonic()
        self._missing: list[str] = []
        self._reported = False
        self._throttle = Throttle(_LOG_EVERY_S)

    def answered(self) -> None:
        """Records that Kafka answered and has the topics."""
        now = time.monotonic()
        if self._reported:
            log.warning("Kafka is back after %.0f s", now - self._answered)
        self._answered, self._reported, self._missing = now, False, []

    def failed(self, error: object) -> None:
        """Records a failed request; `error` is logged with the cause that can be found."""
        if not self._throttle.due():
            return
        self._reported = True
        self._missing = self._missing_topics()
        log.warning("%s (%s); waiting, nothing is skipped", self._explanation(), error)

    def check(self) -> str | None:
        """The check for `/healthz`."""
        away = time.monotonic() - self._answered
        return self._explanation() if self._missing or away > _AWAY_S else None

    def _explanation(self) -> str:
        away = time.monotonic() - self._answered
        bootstrap = self._config.kafka.bootstrap
        if not self._missing:
            return f"Kafka on {bootstrap} has not answered for {away:.0f} s"
        names = " and ".join(repr(name) for name in self._missing)
        return (
            f"Kafka on {bootstrap} has no topic {names} any more: somebody deleted it; make it again with"
            " `driftline setup`, and ingest goes on by itself"
        )

    def _missing_topics(self) -> list[str]:
        names = self._config.topics
        try:
            return missing_topics(self._config.kafka, (names.interactions, names.traffic, names.dead_letters))
        except KafkaError:
            return []  # the broker itself is away

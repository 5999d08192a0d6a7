"""Ids of followed topics, by which a topic that was deleted and created again is recognised."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from streaming.clients import make_admin, topic_id
from streaming.config import KafkaConfig
from streaming.scorer.daemon_thread import in_daemon_thread

_ASK_EVERY_S = 5.0

log = logging.getLogger(__name__)


class TopicIds:
    """Asks now and then for the ids of `topics`. A broker that does not answer leaves the known ids unchanged."""

    def __init__(self, config: KafkaConfig, topics: Sequence[str]) -> None:
        self._config, self._topics = config, topics
        self._known: dict[str, str] = {}
        self._admin: KafkaAdminClient | None = None
        self._lock = threading.Lock()

    async def replaced(self) -> str:
        """Waits until one of the topics has another id than before, and returns its name.

        Offsets of the old topic have no meaning in the new one. If the new one is longer, they are valid in it, and
        the client would skip its first records in silence.
        """
        try:
            while True:
                if (name := await in_daemon_thread(self._ask)) is not None:
                    return name
                await asyncio.sleep(_ASK_EVERY_S)
        finally:  # closing may wait for the broker, and nobody waits for it
            threading.Thread(target=self._close, name="topic-ids-close", daemon=True).start()

    def _ask(self) -> str | None:
        with self._lock:
            try:
                return self._first_replaced()
            except (KafkaError, OSError) as error:
                log.debug("asking for the ids of %s failed: %s", ", ".join(self._topics), error)
        self._close()
        return None

    def _first_replaced(self) -> str | None:
        """The first topic with another id than at the last call; a missing one is left out, as it may come back."""
        if self._admin is None:
            self._admin = make_admin(self._config)
        for name in self._topics:
            if (found := topic_id(self._admin, name)) is None:
                continue
            known, self._known[name] = self._known.get(name, found), found
            if found != known:
                return name
        return None

    def _close(self) -> None:
        """Closes the connection; the next question opens another."""
        with self._lock:
            if self._admin is not None:
                self._admin.close()
                self._admin = None

"""Simulated users who click by the frozen model's probabilities, over HTTP; it records acknowledged events."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import httpx
import numpy as np
from kafka import TopicPartition

from streaming.clients import make_consumer
from streaming.config import Config
from streaming.events import ConvertingImpression, FeedbackKind, ServedImpression, decode_traffic
from tests.chaos.small_backbone import ITEMS, USERS

CLICK_DELAY_S = (0.05, 0.4)
CONVERSION_DELAY_S = (0.1, 12.0)
"""Behind the click: some come with the labels, some later."""
_TIMEOUT_S = 6.0
_UNSEEN, _OVERDUE_S = 10, 0.3
"""Requests whose impressions are not read yet, and seconds that a click waits, from which on a driver is behind."""


@dataclass
class Click:
    """One click or conversion that was sent, and when the broker had it."""

    request_id: str
    item_id: str
    user_id: str
    time: float
    """When the user did it, seconds since the epoch."""
    acknowledged: float | None = None
    """When the scorer said 202."""
    kind: FeedbackKind = "click"


@dataclass
class Truth:
    """What really happened, whatever became of it."""

    requests: int = 0
    """Requests that were answered."""
    refused: int = 0
    """Requests that no scorer answered."""
    shown: dict[str, ServedImpression] = field(default_factory=dict)
    """Impressions that reached the log, by request."""
    appended: dict[str, float] = field(default_factory=dict)
    """When the broker had them, seconds: a clock that is ahead moves no window."""
    clicked: dict[tuple[str, str], bool] = field(default_factory=dict)
    """Whether the user really wanted the item, whatever was sent about it."""
    clicks: list[Click] = field(default_factory=list)
    conversions: list[Click] = field(default_factory=list)
    """Of clicks, where the backbone tells them."""

    def in_time(self, click: Click, window_s: float) -> bool:
        """Whether the broker had the click or conversion before that window of its impression ended."""
        shown_at = min(self.shown[click.request_id].time, self.appended[click.request_id])
        return click.acknowledged is not None and click.acknowledged <= shown_at + window_s


Vote = Callable[[ServedImpression, np.ndarray], np.ndarray]
"""From an impression and the true clicks, `(n,)`, to the clicks that are sent."""


class Driver:
    """Asks the scorers for rankings, watches the log for what was shown, and clicks. Ends with `stop`.

    Where the backbone tells conversions, clicks convert as its frozen arm says.
    """

    def __init__(
        self,
        config: Config,
        scorers: Callable[[], Sequence[str]],
        *,
        rate: float = 25.0,
        candidates: int = 12,
        users: Sequence[str] = USERS,
        seed: int = 0,
        vote: Vote = lambda _, truth: truth,
        patient: bool = False,
    ) -> None:
        """`scorers` gives the addresses that answer now; `rate` is requests a second.

        Patient users ask for nothing while clicks are overdue: on a slow machine they would all come too late.
        """
        self.truth = Truth()
        self.vote = vote
        self.users = users
        self._config, self._scorers = config, scorers
        self._rate, self._candidates, self._patient = rate, candidates, patient
        self._random = np.random.default_rng(seed)
        self._stop = threading.Event()
        self._asking = threading.Event()
        self._waiting: list[Click] = []
        self._following = threading.Event()
        self._last_shown = time.monotonic()
        self._asker = threading.Thread(target=self._ask, daemon=True)
        self._clicker = threading.Thread(target=self._click, daemon=True)
        self.error: BaseException | None = None

    def start(self) -> Driver:
        """Begins; gives itself back."""
        self._clicker.start()
        assert self._following.wait(30) or self.error is not None, "the driver cannot read the log"
        self._asker.start()
        return self

    def stop(self) -> Truth:
        """Asks no more, lets the users click on what they were shown, and gives the truth."""
        self._asking.set()
        self._asker.join()
        end = time.monotonic() + 30
        while time.monotonic() < end and self._clicker.is_alive() and (self._waiting or not self._quiet()):
            time.sleep(0.05)
        self._stop.set()
        self._clicker.join()
        if self.error is not None:
            raise self.error
        return self.truth

    def abandon(self) -> None:
        """Ends at once, whatever is left to click. Harmless after `stop`."""
        self._asking.set()
        self._stop.set()

    def _quiet(self) -> bool:
        return time.monotonic() - self._last_shown > 1.0

    # --- asking ---

    def _ask(self) -> None:
        periods = self._config.domains.period
        with httpx.Client(timeout=_TIMEOUT_S, trust_env=False) as client:
            due = time.monotonic()
            while not self._asking.is_set():
                due = max(due + float(self._random.exponential(1 / self._rate)), time.monotonic() - 0.5)
                if self._asking.wait(max(0.0, due - time.monotonic())):
                    return
                while self._patient and self._behind() and not self._asking.wait(0.02):
                    pass
                body = {
                    "user_id": str(self._random.choice(np.asarray(self.users))),
                    "candidates": [str(item) for item in self._random.choice(ITEMS, self._candidates, replace=False)],
                    "domain": {"scene": "home", "period": str(self._random.choice(np.asarray(periods)))},
                }
                answered = any(self._posted(client, url, "/v1/score", body) for url in self._shuffled())
                self.truth.requests += answered
                self.truth.refused += not answered

    def _behind(self) -> bool:
        """Whether what was shown is not seen yet, or clicks wait that are due."""
        unseen = self.truth.requests - len(self.truth.shown)
        return unseen > _UNSEEN or any(time.time() - click.time > _OVERDUE_S for click in self._waiting[:1])

    def _shuffled(self) -> list[str]:
        urls = list(self._scorers())
        first = int(self._random.integers(len(urls))) if urls else 0
        return urls[first:] + urls[:first]

    @staticmethod
    def _posted(client: httpx.Client, url: str, path: str, body: object) -> bool:
        try:
            return client.post(url + path, json=body).is_success
        except httpx.TransportError:
            return False

    # --- clicking ---

    def _click(self) -> None:
        try:
            random = np.random.default_rng(self._random.integers(1 << 30))
            with httpx.Client(timeout=_TIMEOUT_S, trust_env=False) as client:
                for impression in self._impressions():
                    if impression is not None:
                        self._decide(impression, random)
                    self._send(client)
        except BaseException as error:  # noqa: BLE001 - raised again by `stop`
            self.error = error

    def _impressions(self) -> Iterator[ServedImpression | None]:
        """Impressions read from the log; None now and then, so that due clicks are sent."""
        partitions = [TopicPartition(self._config.topics.traffic, index) for index in range(len(self._config.groups))]
        with make_consumer(self._config.kafka, request_timeout_ms=5_000) as consumer:
            consumer.assign(partitions)
            consumer.seek_to_end(*partitions)
            for partition in partitions:
                consumer.position(partition)
            self._following.set()
            while not self._stop.is_set():
                for records in consumer.poll(timeout_ms=20).values():
                    for record in records:
                        shown = _impression(record.value)
                        if shown is not None and shown.request_id not in self.truth.shown:
                            self.truth.appended[shown.request_id] = record.timestamp / 1_000
                            self._last_shown = time.monotonic()
                            yield shown
                yield None

    def _decide(self, impression: ServedImpression, random: np.random.Generator) -> None:
        self.truth.shown[impression.request_id] = impression
        wanted = random.random(len(impression.items)) < 1 / (1 + np.exp(-impression.array("frozen_logit")))
        for item, really in zip(impression.items, wanted, strict=True):
            self.truth.clicked[impression.request_id, item] = bool(really)
        told = isinstance(impression, ConvertingImpression)
        chance = 1 / (1 + np.exp(-impression.array("cvr_frozen_logit"))) if told else np.zeros(len(impression.items))
        for item, sent, converts in zip(impression.items, self.vote(impression, wanted), chance, strict=True):
            if sent:
                when = time.time() + float(random.uniform(*CLICK_DELAY_S))
                click = Click(impression.request_id, item, impression.user_id, when)
                self._waiting.append(click)
                self.truth.clicks.append(click)
                if told and random.random() < converts:
                    later = when + float(random.uniform(*CONVERSION_DELAY_S))
                    conversion = replace(click, time=later, kind="conversion")
                    self._waiting.append(conversion)
                    self.truth.conversions.append(conversion)

    def _send(self, client: httpx.Client) -> None:
        now = time.time()
        due = [click for click in self._waiting if click.time <= now][:100]
        if not due:
            return
        events = [
            {
                "event": "feedback",
                "request_id": click.request_id,
                "item_id": click.item_id,
                "kind": click.kind,
                "time": click.time,
            }
            for click in due
        ]
        if any(self._posted(client, url, "/v1/events", events) for url in self._scorers()):
            for click in due:
                click.acknowledged = time.time()
                self._waiting.remove(click)


def _impression(value: bytes | None) -> ServedImpression | None:
    try:
        record = decode_traffic(value or b"")
    except Exception:  # noqa: BLE001 - proofs write garbage into the topic
        return None
    return record if isinstance(record, ServedImpression) else None

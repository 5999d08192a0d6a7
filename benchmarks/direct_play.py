"""Plays recorded requests straight into Kafka, as fast as the system takes them: no scorer, no HTTP, no think time.

Impressions go to `traffic` as a scorer would have logged them, represented beforehand; clicks go the usual way through
`interactions` and ingest. How far impressions run ahead of ingest is bounded: event time is the wall clock, and clicks
must find their windows open.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import uuid4

import msgspec
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import OffsetSpec

from features.represent import Representer
from features.store.feature_store import FeatureStore
from lab.streams.request import Request
from local.replay.publish import Publisher
from streaming.backbone import open_backbone
from streaming.clients import make_admin, make_producer
from streaming.config import Config
from streaming.events import FeedbackEvent, ServedImpression, encode_traffic

Progress = Callable[[int, int], None]
_CHECK_EVERY = 50
_PAUSE_S = 0.005


@dataclass(frozen=True)
class Prepared:
    """A request with everything but its time and its id."""

    partition: int
    group: str
    impression: ServedImpression
    clicked: tuple[str, ...]
    """Items of it that the user clicked."""


@dataclass(frozen=True)
class DirectPlay:
    """Counts of what was written."""

    requests: int
    items: int
    clicks: int
    began_at: float
    """Wall clock of the first record, seconds since the epoch."""
    seconds: float
    """From the first record to the acknowledgement of the last."""


def prepare(config: Config, requests: Sequence[Request], progress: Progress | None = None) -> list[Prepared]:
    """Represents `requests` with the run's backbone and the profiles in its feature store.

    Raises ValueError for a backbone with a conversion task, because direct play sends no conversions.
    """
    loaded = open_backbone(config)
    if loaded.backbone.has_conversion:
        raise ValueError("direct play sends no conversions: pretrain with backbone.tasks = ctr")
    store, queries = FeatureStore(config.features, config.run_dir), loaded.queries(config.features)
    representer = Representer(
        loaded.backbone, loaded.encoder, store, loaded.layout, config.domain_space(), queries=queries
    )
    prepared = []
    for done, request in enumerate(requests, 1):
        prepared.append(_prepare(config, representer, request))
        if progress is not None and done % 50 == 0:
            progress(done, len(requests))
    return prepared


def _prepare(config: Config, representer: Representer, request: Request) -> Prepared:
    query = representer.query(request.query) if request.query else None
    made = representer.represent(request.user_id, list(request.items), request.domain, time.time(), query)
    group = config.group_of(request.domain)
    if group is None:
        raise ValueError(f"no kernel group holds the domain {request.domain.key}")
    partition = config.partition_of(group)
    assert partition is not None
    logits = made.frozen_logit.numpy()
    impression = ServedImpression.of(
        request_id="",
        time=0.0,
        user_id=request.user_id,
        domain=request.domain,
        items=list(request.items),
        fingerprint=representer.backbone.fingerprint,
        kernel_version=0,
        arrays={
            "x": made.x.numpy(),
            "live": made.live.numpy(),
            "content": made.content.numpy(),
            "values": made.values,
            "frozen_logit": logits,
            "live_logit": logits,
        },
    )
    clicked = tuple(item for item, click in zip(request.items, request.clicks, strict=True) if click)
    return Prepared(partition, group, impression, clicked)


class _ClickBacklog:
    """Number of clicks that ingest has not routed yet, from the end offsets of `traffic`."""

    def __init__(self, admin: KafkaAdminClient, config: Config) -> None:
        self._admin = admin
        self._partitions = [TopicPartition(config.topics.traffic, index) for index in range(len(config.groups))]
        self._before = self._ends()

    def count(self, impressions: int, clicks: int) -> int:
        """The number of written clicks that ingest has not routed, from the impressions and clicks written so far."""
        return clicks - max(0, self._ends() - self._before - impressions)

    def _ends(self) -> int:
        offsets = self._admin.list_partition_offsets(dict.fromkeys(self._partitions, OffsetSpec.LATEST))
        return sum(offset.offset for offset in offsets.values())


def play_directly(
    config: Config, prepared: Sequence[Prepared], *, max_backlog: int = 2_000, progress: Progress | None = None
) -> DirectPlay:
    """Writes impressions and clicks as fast as ingest takes the clicks, at most `max_backlog` of them ahead of it.

    Raises PublishFailedError or kafka.errors.KafkaError.
    """
    clicks_out = Publisher(config)
    impressions_out: KafkaProducer = make_producer(config.kafka)
    clicks = 0
    began_at, began = time.time(), time.monotonic()
    try:
        with make_admin(config.kafka) as admin:
            backlog = _ClickBacklog(admin, config)
            for done, item in enumerate(prepared, 1):
                clicks += _write(config, impressions_out, clicks_out, item)
                if done % _CHECK_EVERY == 0:
                    while backlog.count(done, clicks) > max_backlog:
                        time.sleep(_PAUSE_S)
                    if progress is not None:
                        progress(done, len(prepared))
        impressions_out.flush()
        clicks_out.flush()
    finally:
        impressions_out.close(timeout=1.0)
        clicks_out.close()
    items = sum(len(item.impression.items) for item in prepared)
    return DirectPlay(len(prepared), items, clicks, began_at, time.monotonic() - began)


def _write(config: Config, impressions: KafkaProducer, clicks: Publisher, request: Prepared) -> int:
    now = time.time()
    request_id = f"{request.group}.{uuid4().hex}"
    served = msgspec.structs.replace(request.impression, request_id=request_id, time=now)
    impressions.send(
        config.topics.traffic, key=request_id.encode(), value=encode_traffic(served), partition=request.partition
    )
    for item in request.clicked:
        clicks.send(FeedbackEvent(request_id, item, now))
    return len(request.clicked)

"""Small real models for the scorer's tests, and two fakes: features made up from ids, a scorer with no broker."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, Literal

import httpx
import numpy as np
import torch
from torch import Tensor

from features.represented import Represented
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import predicts_relevance, round_representation
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig
from model.control_users import NO_CONTROL, ControlUsers
from model.encoding.domain import Domain, DomainSpace
from model.encoding.features import FeatureEncoder
from model.encoding.item_values import Slots
from model.encoding.query import EncodedQuery
from model.exploration import NO_EXPLORATION, Exploration
from model.kernel.compatibility import dependencies
from model.kernel.features import KernelInputs
from model.kernel.kernel import Kernel
from model.kernel.record import KernelInfo, pack_kernel, unpack_kernel
from model.kernel.start import KernelStart
from streaming.config import Config
from streaming.events import Event, ItemEvent
from streaming.events.decisions import Order, encode_order
from streaming.events.request_ids import RequestIds
from streaming.events.rules import EventRules
from streaming.kernel_log.kernels import KernelRecord
from streaming.kernel_log.keys import kernel_key
from streaming.listening import listen
from streaming.scorer.access import AccessControl
from streaming.scorer.active_kernels import ActiveKernels
from streaming.scorer.app import make_app
from streaming.scorer.arms import CandidateEncoder
from streaming.scorer.blend import Blend
from streaming.scorer.core import CLICKS_ALONE, Scored, Scorer
from streaming.scorer.page.history import StatusHistory
from streaming.scorer.page.orders import signed
from streaming.scorer.page.views import OrderRequest, PageView
from streaming.scorer.run import make_server
from streaming.scorer.schema import KernelsResponse, RequestRefused, ScoreRequest
from tests.streaming.small_start import small_start

torch.set_num_threads(1)  # as the scorer itself: on a busy machine more threads wait for each other

LIVE_NAMES = ("t0", "t1", "t2", "rate", "user_rate")
SLOTS, VALUES = 2, 4
SPACE = DomainSpace({"scene": ("home",), "region": (), "period": ("day", "night")})


def make_backbone(seed: int = 0, tasks: Literal["ctr", "ctr_ctcvr"] = "ctr", **more: Any) -> FoundationBackbone:
    """A tiny untrained backbone, with `more` of its settings; another seed is another fingerprint."""
    torch.manual_seed(seed)
    encoder = FeatureEncoder.fit([], [], user_fields=(), item_fields=(), text_width=4)
    config = BackboneConfig(width=8, id_width=4, sparse_width=4, text_width=4, content_width=3, tasks=tasks, **more)
    return FoundationBackbone(config, BackboneShape.of(encoder, SPACE.sizes)).freeze()


START = small_start(8, LIVE_NAMES, residuals=3, values=VALUES)
DEPENDS_ON = dependencies(START, SPACE.sizes)
BOTH = replace(START, conversion=small_start(8, LIVE_NAMES, residuals=3, values=VALUES, seed=3))
"""For a backbone that tells conversions."""


def start_of(backbone: FoundationBackbone) -> KernelStart:
    """What its kernels start from."""
    return BOTH if backbone.has_conversion else START


class MadeUpFeatures:
    """ImpressionEncoder items by numbers drawn from user and item id: the same ids give the same rows."""

    def __init__(self, backbone: FoundationBackbone, *, reads_queries: bool = False) -> None:
        self._backbone = backbone
        self._reads_queries = reads_queries
        self.asked: list[str] = []
        """What was encoded."""

    @property
    def reads_queries(self) -> bool:
        return self._reads_queries

    def knows_query(self, text: str) -> bool:
        """Whether it was encoded before."""
        return not self._reads_queries or text in self.asked

    def query(self, text: str) -> EncodedQuery | None:
        """A query by its words; None where none is read."""
        if not self._reads_queries:
            return None
        self.asked.append(text)
        return EncodedQuery.of(text, np.zeros(4, dtype=np.float32))

    def represent(
        self, user_id: str, item_ids: list[str], domain: Domain, time: float, query: EncodedQuery | None = None
    ) -> Represented:
        """Rows for `item_ids`."""
        salt = user_id if query is None else f"{user_id}{query.words}"
        x = round_representation(self._draw(salt, item_ids, self._backbone.width))
        indices = torch.tensor(SPACE.encode(domain)).expand(len(item_ids), -1)
        judges = query is not None and predicts_relevance(self._backbone)
        return Represented(
            x=x,
            live=self._draw("live" + user_id, item_ids, len(LIVE_NAMES)),
            content=round_representation(self._draw("content", item_ids, self._backbone.content_width)),
            values=self._values(item_ids),
            frozen_logit=self._backbone.predict(x, indices)[:, 0],
            cvr_logit=self._backbone.predict(x, indices)[:, 1] if self._backbone.has_conversion else None,
            cvr_live=self._draw("cvr" + user_id, item_ids, len(LIVE_NAMES)) if self._backbone.has_conversion else None,
            relevance_logit=self._backbone.predict_all(x, indices)[:, 2] if judges else None,
        )

    @staticmethod
    def _values(item_ids: list[str]) -> Slots:
        seeds = [zlib.crc32(f"values/{item}".encode()) for item in item_ids]
        return np.stack([np.random.default_rng(seed).integers(-1, VALUES, size=SLOTS) for seed in seeds]).astype("i2")

    @staticmethod
    def _draw(salt: str, item_ids: list[str], width: int) -> Tensor:
        seeds = [zlib.crc32(f"{salt}/{item}".encode()) for item in item_ids]
        return torch.from_numpy(
            np.stack([np.random.default_rng(seed).normal(size=width) for seed in seeds]).astype(np.float32)
        )


def make_kernel(seed: int = 1, scale: float = 0.5, start: KernelStart = START) -> Kernel:
    """A kernel that has learned something: no weight is that of the identity, unless `scale` is 0."""
    identity = start.features.identity()
    drawn = scale * torch.randn(identity.shape, generator=torch.Generator().manual_seed(seed))
    conversion = None if start.conversion is None else make_kernel(seed + 1, scale, start.conversion)
    return Kernel(start, identity + drawn, conversion)


def live_logit(rows: Represented, version: int) -> Tensor:
    """What the kernel of a version gives for rows."""
    return make_kernel(version).logit(KernelInputs(rows.x, rows.live, torch.from_numpy(rows.values), rows.frozen_logit))


def packed(
    backbone: FoundationBackbone,
    version: int,
    *,
    group: str = "main",
    kernel: Kernel | None = None,
    time: float = 0.0,
    depends_on: Mapping[str, Any] | None = None,
) -> bytes:
    """A kernel encoded as in the log."""
    info = KernelInfo(group, version, backbone.fingerprint, newest_event_time=time, examples=100 * version)
    start = start_of(backbone)
    made = kernel or make_kernel(version, start=start)
    return pack_kernel(made, info, depends_on or dependencies(start, SPACE.sizes))


def make_kernels(backbone: FoundationBackbone, groups: tuple[str, ...] = ("main",)) -> ActiveKernels:
    """Active kernels of `groups`, with a clock fixed at 1000 s."""
    return ActiveKernels(
        groups,
        lambda data: unpack_kernel(
            data,
            fingerprint=backbone.fingerprint,
            start=start_of(backbone),
            depends_on=dependencies(start_of(backbone), SPACE.sizes),
            max_bytes=200_000,
        ),
        clock=lambda: 1_000.0,
    )


def record(value: bytes | None, *, group: str = "main", partition: int = 0) -> KernelRecord:
    """A record of the kernel log."""
    return KernelRecord(partition, kernel_key(group), value)


def ordered(order: Order, *, group: str | None = None) -> KernelRecord:
    """A record of the topic of orders."""
    return KernelRecord(0, (group or order.group).encode(), encode_order(order))


def pinned(backbone: FoundationBackbone, version: int, **changes: Any) -> KernelRecord:
    """An operator's order to serve `version`."""
    known = {"pinned_version": version, "kernel": packed(backbone, version), "by": "ann", "why": "a test"}
    return ordered(Order("main", **{**known, **changes}))


def make_scorer(
    backbone: FoundationBackbone,
    kernels: ActiveKernels,
    *,
    encoder: CandidateEncoder | None = None,
    live_arm: bool = True,
    control: ControlUsers = NO_CONTROL,
    exploration: Exploration = NO_EXPLORATION,
    blend: Blend = CLICKS_ALONE,
    request_ids: RequestIds | None = None,
    max_candidates: int = 50,
) -> Scorer:
    """The scoring core on made-up features, one group for every domain."""
    return Scorer(
        encoder=encoder or MadeUpFeatures(backbone),
        fingerprint=backbone.fingerprint,
        kernels=kernels,
        space=SPACE,
        group_of=lambda domain: None if domain.period == "night" else "main",
        groups=tuple(kernels.groups),
        live_arm=live_arm,
        control=control,
        exploration=exploration,
        blend=blend,
        request_ids=request_ids or RequestIds(),
        max_candidates=max_candidates,
    )


class FakeBackend:
    """A real core without a broker: events are kept in a list."""

    def __init__(
        self, config: Config | None = None, *, reads_queries: bool = False, backbone: FoundationBackbone | None = None
    ) -> None:
        config = config or Config()
        backbone = backbone or make_backbone()
        self.active: ActiveKernels = make_kernels(backbone)
        self.active.take([record(packed(backbone, 2))])
        self.rules = EventRules(config)
        self.encoder = MadeUpFeatures(backbone, reads_queries=reads_queries)
        rules: dict[str, Any] = {"request_ids": self.rules.request_ids, "exploration": config.scorer.exploration}
        self.scorer = make_scorer(backbone, self.active, encoder=self.encoder, **rules)
        self.max_body_bytes = 4_096
        self.checks: dict[str, Callable[[], str | None]] = {"tasks": lambda: None}
        self.access = AccessControl(config.access, time.monotonic)
        self.max_events = config.access.max_events
        self.waits_for: dict[str, str] = {}
        self.events: list[Event] = []
        self.life: list[str] = []
        self.told = StatusHistory(self.active.groups)
        self.orders: list[Order] = []
        self.page = PageView(
            self.told,
            self.active,
            live_arm=True,
            reads_queries=self.scorer.reads_queries,
            now=self.now,
            problem=lambda: None,
        )

    def now(self) -> float:
        return time.time()

    def missing(self) -> dict[str, str]:
        return self.waits_for

    async def score(self, request: ScoreRequest, time: float) -> Scored:
        if request.user_id == "poison":
            raise OSError("the store is gone")
        if request.user_id == "no-features":
            raise RequestRefused("feature_store", "Redis is away", status=503)
        return self.scorer.score(request, time)

    def kernels(self) -> KernelsResponse:
        current = [self.active.state(group) for group in self.active.groups]
        return KernelsResponse(True, current, list(self.active.swaps), list(self.active.refusals))

    async def order(self, request: OrderRequest, key: str) -> Order:
        wanted = request.version or self.active.state(request.group).version - 1
        kinds: dict[str, dict[str, Any]] = {
            "pin": {"pinned_version": wanted},
            "rollback": {"pinned_version": wanted},
            "freeze": {"frozen": True},
            "stop_learning": {"learning": False},
            "resume": {},
        }
        order = Order(
            request.group, by=signed(request.by, key), why=request.why, time=time.time(), **kinds[request.order]
        )
        self.orders.append(order)
        return order

    async def write_events(self, events: list[Event]) -> None:
        if isinstance(events[0], ItemEvent):
            raise RequestRefused("broker_away", "not now", status=503)
        self.events.extend(events)

    async def start(self) -> None:
        self.life.append("start")

    async def stop(self) -> None:
        self.life.append("stop")


@asynccontextmanager
async def asgi_client(backend: FakeBackend, cors_origins: Sequence[str] = ()) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the interface around `backend`, without a socket."""
    transport = httpx.ASGITransport(make_app(backend, cors_origins), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://scorer") as client:
        yield client


@contextmanager
def serving(config: Config | None = None, backend: FakeBackend | None = None, port: int = 0) -> Iterator[int]:
    """The port of a running scorer, on real sockets, by the server that `driftline serve` runs."""
    config = config or Config()
    backend = backend or FakeBackend(config)
    with listen("127.0.0.1", port, ("scorer.host", "scorer.port"), backlog=128) as listener:
        server = make_server(config, backend)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()

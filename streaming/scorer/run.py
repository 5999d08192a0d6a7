"""The scorer's process: loads the frozen parts, serves, and ends cleanly."""

from __future__ import annotations

import logging
import signal
import threading
from functools import partial

import torch
import uvicorn

from features.represent import Representer
from features.store.feature_store import FeatureStore
from model.backbone.interface import predicts_relevance
from model.kernel.record import unpack_kernel
from streaming.backbone import OpenedBackbone, open_backbone
from streaming.config import Config
from streaming.events.rules import EventRules
from streaming.listening import joined, listen
from streaming.monitoring.feature_counts import FeatureCounts
from streaming.monitoring.health import HealthServer
from streaming.monitoring.supervisor import TaskSupervisor
from streaming.scorer.access import check_access
from streaming.scorer.active_kernels import ActiveKernels
from streaming.scorer.app import Backend, make_app
from streaming.scorer.blend import Blend
from streaming.scorer.connections import Connections, make_room, quiet
from streaming.scorer.core import Scorer
from streaming.scorer.service import ScorerService

_GRACE_S = 15
_KEYS = ("scorer.host", "scorer.port")
_BACKLOG = 2_048

log = logging.getLogger(__name__)


def make_kernels(config: Config, opened: OpenedBackbone) -> ActiveKernels:
    """`ActiveKernels` with identities, until the follower brings kernels."""
    build = partial(
        unpack_kernel,
        fingerprint=opened.backbone.fingerprint,
        start=opened.start,
        depends_on=opened.depends_on,
        max_bytes=config.scorer.max_kernel_bytes,
    )
    return ActiveKernels([group.name for group in config.groups], build)


def make_scorer(config: Config, opened: OpenedBackbone, kernels: ActiveKernels, counts: FeatureCounts) -> Scorer:
    """The scoring core with the real feature store.

    Raises StoreUnavailableError, BackboneRefused, or TextModelUnavailableError if queries are encoded by text.
    """
    space, blend = config.domain_space(), Blend(config.scorer.conversion_weight, config.scorer.relevance_weight)
    backbone = opened.backbone
    blend.check(has_conversion=backbone.has_conversion, has_relevance=predicts_relevance(backbone))
    store = FeatureStore(config.features, config.run_dir, counts)
    store.apply()
    queries = opened.queries(config.features)
    if queries is not None:
        queries.encode("warm-up")  # loads the language model now, so that the first search does not wait for it
    return Scorer(
        encoder=Representer(
            backbone,
            opened.encoder,
            store,
            opened.layout,
            space,
            scope_of=config.scope_of,
            queries=queries,
        ),
        fingerprint=backbone.fingerprint,
        kernels=kernels,
        space=space,
        group_of=config.group_of,
        groups=tuple(group.name for group in config.groups),
        live_arm=config.scorer.live_arm,
        control=config.scorer.control_users,
        exploration=config.scorer.exploration,
        blend=blend,
        request_ids=EventRules(config).request_ids,
        max_candidates=config.scorer.max_candidates,
        on_undeclared=lambda: counts.defaulted("domain", "undeclared"),
    )


def run_scorer(config: Config) -> int:
    """Serves until SIGTERM or SIGINT, then delivers waiting impressions. Returns the exit code: 1 after a failure.

    Raises ConfigError, CannotListenError, BackboneRefused, StoreUnavailableError or TextModelUnavailableError before
    it serves anything.
    """
    check_access(config)
    torch.set_num_threads(1)  # the models are so small that a second thread costs more than it saves
    with listen(config.scorer.host, config.scorer.port, _KEYS, backlog=_BACKLOG) as listener:
        opened = open_backbone(config)
        kernels = make_kernels(config, opened)
        counts = FeatureCounts(counting=False)
        scorer = make_scorer(config, opened, kernels, counts)
        supervisor = TaskSupervisor(lambda: setattr(server, "should_exit", True))
        service = ScorerService(config, scorer, kernels, supervisor, on_ready=counts.begin)
        server = make_server(config, service)
        _keep_signals_to_uvicorn()
        log.info("scorer listens on http://%s", joined(*listener.getsockname()[:2]))
        if not config.access.request_id_secrets:
            log.info("request ids are not signed, feedback can be forged: access.request_id_secrets is empty")
        metrics_host, metrics_port = config.scorer.metrics_host, config.scorer.metrics_port
        with HealthServer(metrics_host, metrics_port, service.checks, section="scorer", missing=service.missing):
            server.run(sockets=[listener])
    return supervisor.exit_code


def make_server(config: Config, backend: Backend) -> uvicorn.Server:
    """The HTTP server around `backend`, with the limits of `access`."""
    make_room(config.access)
    logging.getLogger("uvicorn.error").addFilter(quiet)
    return uvicorn.Server(
        uvicorn.Config(
            make_app(backend, config.scorer.cors_origins),
            loop="auto",
            http=Connections(config.access).protocol,  # type: ignore[arg-type]
            ws="none",
            proxy_headers=False,  # a caller's address is its socket's, not what it writes in a header
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
    )


def _keep_signals_to_uvicorn() -> None:
    """Ignores the signal that uvicorn raises again after shutting down, so that this process returns its exit code."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

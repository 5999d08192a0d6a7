"""Operator's orders over HTTP: the same orders as `driftline kernel`, with the same audit."""

from __future__ import annotations

import threading

from kafka.errors import KafkaError

from streaming.config import Config
from streaming.control.history import ControlError, PastKernel, read_history_back
from streaming.control.orders import Operator, read_order
from streaming.events.decisions import Order
from streaming.scorer.access import ANONYMOUS
from streaming.scorer.page.views import OrderRequest
from streaming.scorer.schema import RequestRefused
from streaming.topic_scan import TopicScanError

_KEPT = "topics.history_retention_h says how long kernels are kept"


def signed(by: str, key: str) -> str:
    """Name of who gave an order, for the audit: the name that the caller claims, and the name of the key used."""
    name, proof = by.strip() or "somebody", "no key" if key == ANONYMOUS else key
    return f"{name} ({proof})"


class OrderDesk:
    """Gives orders one at a time, because each depends on the order that held before."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._turn = threading.Lock()

    def give(self, request: OrderRequest, key: str) -> Order:
        """Gives an order for the holder of the key with this name; waits for the broker. Raises RequestRefused."""
        try:
            with self._turn:
                return self._give(request, Operator(self._config, signed(request.by, key), request.why.strip()))
        except TopicScanError as error:
            raise RequestRefused("broker_away", str(error), 503) from error
        except ControlError as error:
            if isinstance(error.__cause__, KafkaError):
                raise RequestRefused("broker_away", str(error), 503) from error
            raise RequestRefused("order_refused", str(error)) from error

    def _give(self, request: OrderRequest, operator: Operator) -> Order:
        group = request.group
        match request.order:
            case "pin":
                return operator.pin(group, self._version(group, request.version))
            case "rollback" if request.version is not None:
                return operator.pin(group, self._version(group, request.version), kind="rollback")
            case "rollback":
                return operator.pin(group, self._before(group), kind="rollback")
            case "freeze":
                return operator.freeze(group)
            case "stop_learning":
                return operator.stop_learning(group)
            case "resume":
                return operator.resume(group)

    def _version(self, group: str, version: int | None) -> PastKernel:
        if version is None:
            raise RequestRefused("invalid_request", "name the version to pin - at `$.version`")
        for past in read_history_back(self._config, group):
            if past.info.version == version:
                return past
        raise ControlError(f"version {version} is not in the history: {_KEPT}")

    def _before(self, group: str) -> PastKernel:
        served = read_order(self._config, group).pinned_version
        for past in read_history_back(self._config, group):
            if served is None:
                served = past.info.version
            if past.info.version < served:
                return past
        raise ControlError(f"there is no version before {served} in the history: {_KEPT}")

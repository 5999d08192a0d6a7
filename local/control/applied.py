"""Waits until a scorer obeys an order, which it reports at `/v1/kernels`."""

from __future__ import annotations

import json
import time
from urllib.error import HTTPError

from local.api_keys import key_cure, key_headers
from local.probe import get
from streaming.events.decisions import Order

_WAIT_S = 5.0
_ASK_EVERY_S = 0.05


def wait_until_applied(address: str, order: Order, key: str | None) -> str:
    """A sentence about whether one scorer, asked with this API key, obeys an order."""
    began = time.monotonic()
    while True:
        try:
            current = json.loads(get(f"{address.rstrip('/')}/v1/kernels", key_headers(key)))["current"]
        except (OSError, ValueError, LookupError) as error:
            cure = key_cure(error.code, "operator") if isinstance(error, HTTPError) else ""
            return f"does not tell: {error}{cure}; it obeys as soon as it reads topic `control`"
        state = next((state for state in current if state["group"] == order.group), None)
        if state is None:
            return f"knows no group {order.group!r}: it runs with another configuration"
        if state["ordered_at"] == order.time:
            return f"obeys {time.time() - order.time:.1f} s after the order, and serves {_served(state['version'])}"
        if time.monotonic() - began > _WAIT_S:
            return f"has not obeyed within {_WAIT_S:.0f} s and serves {_served(state['version'])}: look at its log"
        time.sleep(_ASK_EVERY_S)


def _served(version: int) -> str:
    return f"version {version}" if version else "the frozen arm"

"""Access control of the HTTP interface: keys, rights and call rates. It has no web server and no clock of its own.

Keys are 256 random bits, so the configuration may hold their plain SHA-256. A slow hash would protect nothing, because
such keys cannot be guessed, and any stranger could use it to waste the scorer's time (docs/decisions/0100).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

from streaming.config import AccessConfig, Config, ConfigError, Right
from streaming.events import DriftEvent, Event, FeedbackEvent, ImpressionEvent
from streaming.monitoring import metrics
from streaming.scorer.schema import RequestRefused

ANONYMOUS = "(none)"
"""Name of the caller in metrics if no keys are configured; no key's name can contain brackets."""
_UNKNOWN_CALLER = "(unknown)"
_BEARER = "bearer "
_KEY_BYTES = 32
_PREFIX = "dl_"
_MOST_CALLERS = 10_000
"""Number of callers whose rate is remembered; beyond it the one unseen longest is dropped and starts again."""
_ROUNDING_S = 1e-9


def new_key() -> str:
    """A key as its holder sends it: a prefix that scanners for leaked secrets recognise, and 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def key_hash(key: str) -> str:
    """The form in which the configuration holds a key."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def check_access(config: Config) -> None:
    """Raises ConfigError if there are no keys but other machines can reach the address."""
    host = config.scorer.host
    if config.access.keys or _loopback(host):
        return
    raise ConfigError(
        f"scorer.host {host!r} is reached from other machines and access.keys is empty, so that anybody could forge "
        "clicks and overwrite profiles: make a key with `driftline key new NAME` and put what it prints into the "
        "configuration (or DRIFTLINE_ACCESS__KEYS, as JSON), or set scorer.host to 127.0.0.1"
    )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class Caller:
    """An admitted caller with its rights."""

    name: str
    rights: frozenset[str]

    def may(self, right: Right) -> bool:
        """Whether the caller has the right; who may `operator` may also `read`."""
        return right in self.rights or (right == "read" and "operator" in self.rights)

    def need(self, right: Right) -> None:
        """Raises RequestRefused (403) without the right; `operator` includes `read`."""
        if not self.may(right):
            _count(self.name, "forbidden")
            raise RequestRefused(
                "not_allowed", f"the key {self.name!r} may not {right!r}: add it to the key's `may` in access.keys", 403
            )


def right_of(event: Event) -> Right:
    """The right that is needed to write `event`."""
    match event:
        case FeedbackEvent():
            return "feedback"
        case ImpressionEvent():
            return "impression"
        case DriftEvent():
            return "drift"
        case _:
            return "profile"


_EVERY: frozenset[str] = frozenset(get_args(Right))


class AccessControl:
    """Admits callers by key, each within its rate."""

    def __init__(self, config: AccessConfig, clock: Callable[[], float]) -> None:
        """`clock` returns seconds of a clock that never goes back."""
        self._keys = [(key.hash, Caller(key.name, frozenset(key.may))) for key in config.keys]
        self._rate = CallRate(config.requests_per_s, clock)

    def enter(self, authorization: str, address: str) -> Caller:
        """The caller with this Authorization header. Raises RequestRefused: 401 without a valid key, 429 if too
        fast."""
        caller = self._caller(authorization)
        wait = self._rate.wait(caller.name if caller is not None and self._keys else f"address {address}")
        name = caller.name if caller is not None else _UNKNOWN_CALLER
        if wait > 0:
            _count(name, "limited")
            raise RequestRefused(
                "too_many_requests",
                f"more calls than access.requests_per_s: try again in {math.ceil(wait)} s",
                429,
                {"Retry-After": str(math.ceil(wait))},
            )
        if caller is None:
            _count(name, "refused")
            raise _no_entry(authorization)
        _count(name, "allowed")
        return caller

    def _caller(self, authorization: str) -> Caller | None:
        """Whose key was sent; None if none or a wrong one was. Without configured keys everybody may do everything."""
        if not self._keys:
            return Caller(ANONYMOUS, _EVERY)
        if authorization[: len(_BEARER)].lower() != _BEARER:
            return None
        sent = key_hash(authorization[len(_BEARER) :].strip()).encode()
        # Every key is compared in constant time, so the time of a refusal reveals nothing about any key.
        found = [caller for known, caller in self._keys if hmac.compare_digest(known.encode(), sent)]
        return found[0] if found else None


def _no_entry(authorization: str) -> RequestRefused:
    if authorization:
        error, detail = "unknown_key", "the key is not among access.keys; send it as `Authorization: Bearer KEY`"
    else:
        error, detail = "no_key", "this scorer needs a key: send `Authorization: Bearer KEY`"
    return RequestRefused(error, detail, 401, {"WWW-Authenticate": "Bearer"})


def _count(name: str, outcome: str) -> None:
    metrics.scorer.HTTP_CALLS.labels(key=name, outcome=outcome).inc()


class CallRate:
    """Limits the calls per second of each caller, allowing one second's worth at once.

    This is the generic cell rate algorithm (ITU-T I.371), a token bucket that needs one number per caller: the time at
    which its bucket is full again.
    """

    def __init__(self, per_s: float, clock: Callable[[], float]) -> None:
        """`per_s` 0 sets no limit."""
        self._per_s, self._clock = per_s, clock
        self._level: OrderedDict[str, float] = OrderedDict()

    def wait(self, caller: str) -> float:
        """Seconds until the caller may call; 0 admits it now. A refused call does not count."""
        if not self._per_s:
            return 0.0
        now = self._clock()
        interval, burst = 1 / self._per_s, max(1.0, 1 / self._per_s)
        before = max(self._level.pop(caller, now), now)
        ahead = before + interval - now - burst
        let_in = ahead <= _ROUNDING_S
        self._level[caller] = before + interval if let_in else before
        if len(self._level) > _MOST_CALLERS:
            self._level.popitem(last=False)
        return 0.0 if let_in else ahead

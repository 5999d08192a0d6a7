"""Request ids: `<group>.<hex>`, signed so that feedback can only be sent for served requests (docs/decisions/0101).

An id names its kernel group, which routes its feedback. With secrets, the rest is 32 random hex digits and the first 32
digits of their HMAC-SHA256 (RFC 2104) over `<group>.<random>`; without secrets it is the random part alone.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets as random
from collections.abc import Sequence

_RANDOM = 32
_SIGNATURE = 32  # hex digits, 128 bits


class RequestIds:
    """Makes and recognises the request ids of one deployment. Without clock and state, all processes agree."""

    def __init__(self, secrets: Sequence[str] = (), unsigned: Sequence[str] = ()) -> None:
        """The first of `secrets` signs, and all are accepted; `unsigned` are prefixes of other systems' ids."""
        self._secrets = [secret.encode() for secret in secrets]
        self._unsigned = tuple(unsigned)

    @property
    def signed(self) -> bool:
        """Whether ids are signed."""
        return bool(self._secrets)

    def new(self, group: str) -> str:
        """A fresh id of a request of `group`."""
        head = f"{group}.{random.token_hex(_RANDOM // 2)}"
        return head + _signature(self._secrets[0], head) if self._secrets else head

    def ours(self, request_id: str) -> bool:
        """Whether a scorer of this deployment made the id; always true without secrets."""
        if not self._secrets:
            return True
        head, signature = request_id[:-_SIGNATURE], request_id[-_SIGNATURE:].encode()
        # Every secret is tried, so that the time does not reveal which one matched.
        fits = [hmac.compare_digest(_signature(secret, head).encode(), signature) for secret in self._secrets]
        return any(fits)

    def foreign(self, request_id: str) -> bool:
        """Whether the id may come from another system: any id without secrets, else one with a configured prefix."""
        return not self._secrets or request_id.startswith(self._unsigned)


def _signature(secret: bytes, head: str) -> str:
    return hmac.new(secret, head.encode(), hashlib.sha256).hexdigest()[:_SIGNATURE]

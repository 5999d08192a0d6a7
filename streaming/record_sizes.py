"""How large a record may be: what producers, consumers and topics agree on."""

from __future__ import annotations

MAX_RECORD_BYTES = 8 * 1024 * 1024
"""Largest record: an impression of a thousand items with its representations, a kernel, a snapshot or a row fits."""
ORDER_BYTES = 2 * MAX_RECORD_BYTES
"""Largest order of an operator: it holds a pinned kernel in base64, four thirds of it."""

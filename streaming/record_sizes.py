"""Largest sizes of records, on which producers, consumers and topics agree."""

from __future__ import annotations

MAX_RECORD_BYTES = 8 * 1024 * 1024
"""Largest record in bytes: enough for an impression of a thousand items, a kernel, a snapshot or a row."""
ORDER_BYTES = 2 * MAX_RECORD_BYTES
"""Largest order in bytes: it contains a pinned kernel in base64, which is a third larger."""

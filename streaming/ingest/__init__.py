"""The consumer of outside events: validates them, writes profiles to Feast, routes traffic, keeps what it refuses.

`routing`, `refusals` and `idle` are plain classes without a broker or a clock; `service` is the Kafka shell.
"""

from streaming.ingest.service import run_ingest

__all__ = ["run_ingest"]

"""The consumer of outside events: validates them, writes profiles to Feast, routes traffic, keeps what it refuses.

Read `service` first (the loop: poll, write, commit), then `batch` (one poll's records on their way), `routing` (which
event is taken, and to which partition of `traffic`), `profiles`, `external_impressions` and `output` (where they go).
`idle`, `tail` and `ticker` move event time on when traffic stops (docs/decisions/0012). `kafka_watch`, `refusals` and
`drift_gauge` tell an operator. `routing`, `refusals` and `idle` are plain classes without a broker or a clock.
"""

from streaming.ingest.service import run_ingest

__all__ = ["run_ingest"]

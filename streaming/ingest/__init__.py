"""The consumer of outside events: validates them, writes profiles to Feast, routes traffic, keeps what it refuses.

Read `service` first (the loop: poll, write, commit, mark), then `reader` and `batch` (one poll's records on their
way), `routing` (which event is taken, and to which partition of `traffic`), `external_impressions`, `letters` and
`output` (where they go). `profile_lane` and `profiles` do the same for users and items, in a lane of their own.
`progress` knows how far was read; `ticker` writes that, and ticks when traffic stops, with `idle` and `tail`
(docs/decisions/0012, 0097). `kafka_watch` and `drift_gauge` tell an operator. `routing`, `progress` and `idle`
are plain classes without a broker or a clock.
"""

from streaming.ingest.service import run_ingest

__all__ = ["run_ingest"]
